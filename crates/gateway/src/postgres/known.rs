//! What a statement may use besides tables: built-in functions, types and settings without side effects.
//!
//! Everything else is refused. The names are those of `pg_catalog`; a statement that uses one is forwarded with that
//! schema written out, so no function or type of the same name elsewhere can take its place.

/// Functions that only compute. Not among them, on purpose: whatever reads files, settings, catalogues, sequences or
/// other sessions, runs text as SQL, sleeps, locks, notifies, or touches large objects.
const FUNCTIONS: &[&str] = &[
    "abs",
    "age",
    "any_value",
    "array_agg",
    "array_append",
    "array_cat",
    "array_length",
    "array_position",
    "array_remove",
    "array_to_string",
    "ascii",
    "avg",
    "bit_and",
    "bit_length",
    "bit_or",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "cbrt",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "clock_timestamp",
    "concat",
    "concat_ws",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "date_bin",
    "date_part",
    "date_trunc",
    "decode",
    "degrees",
    "dense_rank",
    "div",
    "encode",
    "every",
    "exp",
    "extract",
    "first_value",
    "floor",
    "format",
    "greatest",
    "initcap",
    "isfinite",
    "json_agg",
    "json_array_elements",
    "json_array_elements_text",
    "json_array_length",
    "json_build_array",
    "json_build_object",
    "json_each",
    "json_each_text",
    "json_extract_path",
    "json_extract_path_text",
    "json_object_agg",
    "json_object_keys",
    "json_typeof",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_object_agg",
    "jsonb_object_keys",
    "jsonb_set",
    "jsonb_typeof",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "like_escape",
    "ln",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "max",
    "md5",
    "min",
    "mod",
    "mode",
    "now",
    "nth_value",
    "ntile",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "overlay",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "position",
    "power",
    "radians",
    "rank",
    "regexp_count",
    "regexp_like",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_substr",
    "regr_slope",
    "replace",
    "reverse",
    "right",
    "round",
    "row_number",
    "row_to_json",
    "rpad",
    "rtrim",
    "sha256",
    "sha512",
    "sign",
    "similar_to_escape",
    "split_part",
    "sqrt",
    "starts_with",
    "statement_timestamp",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "timezone",
    "to_char",
    "to_date",
    "to_hex",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "transaction_timestamp",
    "translate",
    "trim_array",
    "trunc",
    "unnest",
    "upper",
    "var_pop",
    "var_samp",
    "variance",
    "width_bucket",
];

/// Types that hold values and look nothing up.
const TYPES: &[&str] = &[
    "bit",
    "bool",
    "bpchar",
    "bytea",
    "char",
    "date",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "interval",
    "json",
    "jsonb",
    "name",
    "numeric",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
    "varbit",
    "varchar",
];

/// Settings that a client may read.
const SHOWN: &[&str] = &[
    "application_name",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "integer_datetimes",
    "intervalstyle",
    "lock_timeout",
    "max_identifier_length",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_isolation",
    "transaction_read_only",
];

/// Whether a built-in function may be called.
pub(crate) fn function(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_ok()
}

/// Whether a value may be cast to a built-in type.
pub(crate) fn of_type(name: &str) -> bool {
    TYPES.binary_search(&name).is_ok()
}

/// Whether a setting may be read.
pub(crate) fn shown(name: &str) -> bool {
    SHOWN.binary_search(&name).is_ok()
}

/// Whether a client may set this setting to this value. None of them changes how a statement is read.
pub(crate) fn set(name: &str, value: &str) -> bool {
    let plain =
        value.len() <= 64 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b" ,./:+_-".contains(&b));
    plain
        && match name {
            "client_encoding" => matches!(value.to_ascii_uppercase().as_str(), "UTF8" | "UTF-8" | "UNICODE"),
            "datestyle" => value.to_ascii_uppercase().starts_with("ISO"),
            "application_name" | "extra_float_digits" | "intervalstyle" | "lock_timeout"
            | "statement_timeout" | "timezone" => true,
            "client_min_messages" => matches!(value, "notice" | "warning" | "error"),
            "bytea_output" => value == "hex",
            "standard_conforming_strings" => value == "on",
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_they_can_be_searched() {
        for list in [FUNCTIONS, TYPES, SHOWN] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{list:?}");
        }
        assert!(function("count") && of_type("numeric") && shown("server_version"));
    }

    // proves: INV6
    #[test]
    fn what_reaches_out_or_looks_around_is_not_known() {
        for name in [
            "set_config",
            "current_setting",
            "pg_sleep",
            "pg_read_file",
            "lo_import",
            "lo_create",
            "dblink",
            "query_to_xml",
            "database_to_xml",
            "table_to_xml",
            "nextval",
            "setval",
            "pg_notify",
            "pg_advisory_lock",
            "pg_terminate_backend",
            "pg_reload_conf",
            "txid_current",
            "pg_logical_emit_message",
            "has_table_privilege",
            "pg_get_viewdef",
            "convert_from",
            "repeat",
            "generate_series",
            "random",
        ] {
            assert!(!function(name), "{name}");
        }
        for name in ["regclass", "regproc", "regrole", "oid", "xml", "cstring", "record", "pg_lsn"] {
            assert!(!of_type(name), "{name}");
        }
        assert!(!set("search_path", "public") && !set("role", "x") && !set("client_encoding", "SJIS"));
        assert!(!set("application_name", "a'; b") && set("application_name", "psql"));
    }
}
