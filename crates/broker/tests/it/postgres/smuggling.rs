//! Writing through a login that was made for reading: everything that has worked somewhere, tried on a real server.
//!
//! Nothing here is parsed by us. What holds is the login's own rights, and the measure is the database itself: after
//! each try its catalogue and its rows are what they were.

use super::*;

/// Statements that write, change rights, reach the machine or another server, or end the transaction first.
const TRIES: &[&str] = &[
    // Writes inside a reading statement.
    "WITH gone AS (DELETE FROM orders RETURNING id) SELECT id FROM gone",
    "WITH more AS (INSERT INTO orders (id) VALUES (9999) RETURNING id) SELECT id FROM more",
    "WITH less AS (UPDATE orders SET total = 0 RETURNING id) SELECT id FROM less",
    "SELECT id INTO copied FROM orders",
    "CREATE TABLE copied AS SELECT id FROM orders",
    "CREATE UNLOGGED TABLE copied (id int)",
    "CREATE VIEW seen AS SELECT id FROM orders",
    "CREATE MATERIALIZED VIEW seen AS SELECT id FROM orders",
    "MERGE INTO orders o USING (SELECT 1 AS id) s ON o.id = s.id WHEN MATCHED THEN DELETE",
    "SELECT id FROM orders FOR UPDATE",
    "EXPLAIN ANALYZE DELETE FROM orders",
    "EXPLAIN (ANALYZE, BUFFERS) INSERT INTO orders (id) VALUES (9999)",
    "PREPARE wipe AS DELETE FROM orders; EXECUTE wipe",
    "DECLARE wipe CURSOR WITH HOLD FOR DELETE FROM orders RETURNING id",
    "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE",
    "REFRESH MATERIALIZED VIEW seen",
    "REINDEX TABLE orders",
    "CLUSTER orders",
    "VACUUM FULL orders",
    // The statement ends, and another begins.
    "SELECT 1; DROP TABLE orders",
    "COMMIT; DROP TABLE orders",
    "ROLLBACK; TRUNCATE orders",
    "SELECT 1 /* ; */; DELETE FROM customers --",
    "BEGIN; SET TRANSACTION READ WRITE; DELETE FROM orders; COMMIT",
    // Reading only is a setting, and a setting can be set.
    "SET default_transaction_read_only = off; DELETE FROM orders",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; DELETE FROM orders",
    "SET row_security = off; SELECT id FROM orders",
    "SET search_path = bailiwick; DELETE FROM scope",
    "SET session_replication_role = replica; DELETE FROM orders",
    "SELECT set_config('session_authorization', 'bailiwick', false); DELETE FROM orders",
    // Other people's rights.
    "SET ROLE bailiwick; DELETE FROM orders",
    "SET SESSION AUTHORIZATION bailiwick; DELETE FROM orders",
    "RESET ROLE; RESET SESSION AUTHORIZATION; DELETE FROM orders",
    "GRANT DELETE ON orders TO PUBLIC",
    "GRANT bailiwick TO CURRENT_USER",
    "ALTER TABLE orders OWNER TO CURRENT_USER",
    "REASSIGN OWNED BY bailiwick TO CURRENT_USER",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "CREATE ROLE mine SUPERUSER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE POLICY wide ON orders USING (true)",
    "DROP OWNED BY bailiwick",
    // Code.
    "DO $$ BEGIN DELETE FROM orders; END $$",
    "DO LANGUAGE plpgsql $$ BEGIN EXECUTE 'DROP TABLE orders'; END $$",
    "CREATE FUNCTION wipe() RETURNS void LANGUAGE sql AS 'DELETE FROM orders'",
    "CREATE FUNCTION wipe() RETURNS void SECURITY DEFINER LANGUAGE sql AS 'DELETE FROM orders'",
    "CREATE TRIGGER wipe AFTER INSERT ON orders EXECUTE FUNCTION pg_notify()",
    "CREATE RULE wipe AS ON SELECT TO orders DO ALSO DELETE FROM customers",
    "CREATE EVENT TRIGGER wipe ON ddl_command_end EXECUTE FUNCTION pg_notify()",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE CAST (text AS int) WITH INOUT",
    "CREATE LANGUAGE plpython3u",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE SERVER out FOREIGN DATA WRAPPER postgres_fdw",
    "SELECT dblink_exec('dbname=postgres', 'DROP TABLE orders')",
    "SELECT query_to_xml('DELETE FROM orders', true, true, '')",
    "SELECT query_to_xml('WITH d AS (DELETE FROM orders RETURNING 1) SELECT * FROM d', true, true, '')",
    "SELECT cursor_to_xml('wipe', 1, true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    // The machine.
    "COPY orders (id) FROM PROGRAM 'seq 1 9'",
    "COPY orders (id) TO PROGRAM 'cat'",
    "COPY orders (id) TO '/tmp/orders'",
    "COPY orders (id) FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_file_write('x', 'y', false)",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "LOAD '/tmp/x.so'",
    "CREATE TABLESPACE mine LOCATION '/tmp'",
    // The server.
    "ALTER SYSTEM SET log_statement = 'none'",
    "ALTER DATABASE postgres SET search_path = mine",
    "ALTER ROLE ALL SET search_path = mine",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('x')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bailiwick'",
    "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
    "CREATE PUBLICATION out FOR ALL TABLES",
    "CREATE SUBSCRIPTION inn CONNECTION 'host=x' PUBLICATION y",
    "CREATE DATABASE mine",
    "CREATE SCHEMA mine",
    "COMMENT ON TABLE orders IS 'mine'",
    "SECURITY LABEL ON TABLE orders IS 'mine'",
    "IMPORT FOREIGN SCHEMA public FROM SERVER out INTO public",
];

/// Rows and catalogue as one text. Left out are the login itself, and what a login may say about objects that it or its
/// capability role will make: they can make none.
const FINGERPRINT: &str = "
SELECT concat_ws(' ',
 (SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o),
 (SELECT md5(string_agg(c::text, ',' ORDER BY id)) FROM customers c),
 (SELECT md5(string_agg(s::text, ',' ORDER BY s::text)) FROM bailiwick.scope s),
 (SELECT md5(string_agg(concat_ws('|', c.oid, relname, relkind, relowner, relacl::text, relrowsecurity, relforcerowsecurity), ',' ORDER BY c.oid))
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_(toast_)?temp'),
 (SELECT md5(string_agg(concat_ws('|', oid, proname, prosrc, proacl::text, proowner), ',' ORDER BY oid)) FROM pg_proc),
 (SELECT md5(string_agg(concat_ws('|', oid, nspname, nspacl::text), ',' ORDER BY oid)) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'),
 (SELECT md5(string_agg(p::text, ',' ORDER BY p::text)) FROM pg_policy p),
 (SELECT md5(string_agg(concat_ws('|', roleid, member, admin_option), ',' ORDER BY roleid, member)) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE rolname = 'bailiwick'),
 (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_rewrite), (SELECT count(*) FROM pg_event_trigger),
 (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_language), (SELECT count(*) FROM pg_cast),
 (SELECT count(*) FROM pg_operator), (SELECT count(*) FROM pg_foreign_server), (SELECT count(*) FROM pg_publication),
 (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_default_acl a JOIN pg_roles r ON r.oid = a.defaclrole WHERE rolname = 'bailiwick'), (SELECT count(*) FROM pg_seclabel),
 (SELECT count(*) FROM pg_tablespace), (SELECT count(*) FROM pg_description WHERE objoid = 'orders'::regclass),
 (SELECT count(*) FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE setrole = 0 OR rolname = 'bailiwick'),
 (SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'))";

async fn fingerprint(admin: &Client) -> String {
    admin.query_one(FINGERPRINT, &[]).await.unwrap().get(0)
}

// proves: A21, X2, Z4
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_through_a_login_that_reads() {
    let shop = Shop::new().await;
    let admin = shop.admin().await;
    let before = fingerprint(&admin).await;
    let (mut agent, credential, handle) = shop.login().await;
    let during = fingerprint(&admin).await;
    assert_ne!(before, during, "the fingerprint sees the row that narrows this very login");
    agent.run("SELECT 1 / (count(*) = 500)::int FROM orders").await.unwrap();
    let (mut written, mut known) = (Vec::new(), during);
    for sql in TRIES {
        for prefix in ["", &format!("SET ROLE {};", shop.role)] {
            let mut agent = shop.log_in(&credential).await.unwrap();
            let answer = agent.run(&format!("{prefix}{sql}")).await;
            let after = fingerprint(&admin).await;
            if after != known {
                written.push(format!("{prefix}{sql}: {answer:?}"));
                known = after;
            }
        }
    }
    assert!(written.is_empty(), "{written:#?}");
    agent.run("SELECT 1 / (count(*) = 500)::int FROM orders").await.unwrap();
    end(&shop.broker, &handle).await;
    assert_eq!(fingerprint(&admin).await, before, "and nothing is left");
}
