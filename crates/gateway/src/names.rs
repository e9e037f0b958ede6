//! The names under which tools appear to an agent.
//!
//! Models take names of letters, digits, `_` and `-` only, so `cloud.vm.restart` appears as
//! `cloud__vm__restart`. The mapping is injective: two tools never share a name (threat A40), and a name
//! that no tool could have is refused. A dot becomes `__`; what could be mistaken for it is written
//! `-_u` (underscore), `-_h` (hyphen) or `-_s` (slash).
//!
//! An endpoint for one system leaves the system out: clients put the server's name in front themselves.

use bailiwick_core::{SystemId, ToolId};

/// The system of the tools that bailiwick itself offers.
pub const BUILT_IN: &str = "bailiwick";

/// The tool's name on the wire, or `None` if it has none (its system's name ends in `_`).
pub fn wire_name(tool: &ToolId, only: Option<&SystemId>) -> Option<String> {
    let action = encode(tool.action());
    let name = match only {
        Some(system) if system.as_str() == tool.system() => action,
        Some(_) if tool.system() != BUILT_IN => return None,
        _ => format!("{}__{action}", tool.system()),
    };
    (tool_of(&name, only).as_ref() == Some(tool)).then_some(name)
}

/// The tool behind a name on the wire, or `None` if no tool has that name.
pub fn tool_of(name: &str, only: Option<&SystemId>) -> Option<ToolId> {
    let own = name.strip_prefix(BUILT_IN).and_then(|rest| rest.strip_prefix("__"));
    let (system, action) = match (only, own) {
        (_, Some(action)) => (BUILT_IN, action),
        (Some(system), None) => (system.as_str(), name),
        (None, None) => name.split_once("__")?,
    };
    let tool = ToolId::of(&SystemId::parse(system).ok()?, &decode(action)?).ok()?;
    (encode(tool.action()) == action).then_some(tool)
}

fn encode(action: &str) -> String {
    let bytes = action.as_bytes();
    let neighbour = |i: Option<usize>| i.and_then(|i| bytes.get(i)).copied();
    let mut out = String::with_capacity(action.len() + 8);
    for (i, &b) in bytes.iter().enumerate() {
        let before = neighbour(i.checked_sub(1));
        let after = neighbour(Some(i + 1));
        let crowded = |n: Option<u8>| matches!(n, None | Some(b'_' | b'.'));
        match b {
            b'.' => out.push_str("__"),
            b'/' => out.push_str("-_s"),
            b'_' if crowded(before) || crowded(after) => out.push_str("-_u"),
            b'-' if after == Some(b'_') => out.push_str("-_h"),
            b => out.push(char::from(b)),
        }
    }
    out
}

fn decode(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (plain, used) = match rest.get(..3) {
            Some("-_s") => ('/', 3),
            Some("-_u") => ('_', 3),
            Some("-_h") => ('-', 3),
            _ if rest.starts_with("-_") => return None,
            _ if rest.starts_with("__") => ('.', 2),
            _ => (first, first.len_utf8()),
        };
        out.push(plain);
        rest = rest.get(used..)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tool(text: &str) -> ToolId {
        ToolId::parse(text).unwrap()
    }

    #[test]
    fn names_read_well_and_lead_back() {
        for (id, name) in [
            ("cloud.vm.restart", "cloud__vm__restart"),
            ("files.read_file", "files__read_file"),
            ("git.create-issue", "git__create-issue"),
            ("http.GET/v1", "http__GET-_sv1"),
            ("a._x", "a__-_ux"),
            ("a.b__c", "a__b-_u-_uc"),
            ("a.b-_c", "a__b-_h_c"),
        ] {
            assert_eq!(wire_name(&tool(id), None).as_deref(), Some(name), "{id}");
            assert_eq!(tool_of(name, None), Some(tool(id)), "{name}");
        }
    }

    #[test]
    fn a_name_no_tool_has_leads_nowhere() {
        for name in ["", "cloud", "cloud__", "__x", "Cloud__x", "a___x", "a__b-_z", "a__b c", "a__b\u{e9}"] {
            assert_eq!(tool_of(name, None), None, "{name}");
        }
        assert_eq!(wire_name(&tool("a_.x"), None), None, "would collide with `a._x`");
    }

    #[test]
    fn one_system_alone_needs_no_prefix_and_cannot_pose_as_built_in() {
        let cloud = SystemId::parse("cloud").unwrap();
        assert_eq!(wire_name(&tool("cloud.vm.restart"), Some(&cloud)).as_deref(), Some("vm__restart"));
        assert_eq!(wire_name(&tool("files.read"), Some(&cloud)), None);
        assert_eq!(wire_name(&tool("bailiwick.resume"), Some(&cloud)).as_deref(), Some("bailiwick__resume"));
        assert_eq!(wire_name(&tool("cloud.bailiwick.resume"), Some(&cloud)), None);
    }

    proptest! {
        // proves: A40
        #[test]
        fn no_two_tools_share_a_name(
            a in "[a-c_-]{1,4}\\.[a-b_./-]{1,8}", b in "[a-c_-]{1,4}\\.[a-b_./-]{1,8}"
        ) {
            let (Ok(a), Ok(b)) = (ToolId::parse(&a), ToolId::parse(&b)) else { return Ok(()) };
            if let Some(name) = wire_name(&a, None) {
                prop_assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-'));
                prop_assert_eq!(tool_of(&name, None), Some(a.clone()));
                if a != b { prop_assert_ne!(wire_name(&b, None), Some(name)); }
            }
        }

        #[test]
        fn a_name_that_leads_somewhere_is_that_tools_only_name(name in "[a-c_]{1,4}__[a-bhsu_-]{1,8}") {
            if let Some(tool) = tool_of(&name, None) {
                prop_assert_eq!(wire_name(&tool, None), Some(name));
            }
        }
    }
}
