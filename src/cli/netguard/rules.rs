//! The table `inet portcullis`: its sets, and the rules that drop what is in them. As nftables reads them in JSON, and as
//! people do.

use serde_json::{Value, json};

pub(super) const TABLE: &str = "portcullis";
/// Marks what netguard has put into a set. What does not carry it is somebody else's.
pub(super) const MARK: &str = "portcullis netguard";

/// The sets: what is blocked, and what never is.
pub(super) const SETS: [Set; 4] = [
    Set { name: "blocked_v4", kind: "ipv4_addr", v4: true, excepts: false },
    Set { name: "blocked_v6", kind: "ipv6_addr", v4: false, excepts: false },
    Set { name: "excepted_v4", kind: "ipv4_addr", v4: true, excepts: true },
    Set { name: "excepted_v6", kind: "ipv6_addr", v4: false, excepts: true },
];

/// Just before the usual filter, which so never sees what is dropped.
const PRIORITY: i32 = -10;
const CHAINS: [&str; 3] = ["input", "forward", "output"];
/// In each chain, which address of a packet is looked at: whoever is blocked neither sends nor is sent anything.
const RULES: [(&str, &str); 4] = [("input", "saddr"), ("forward", "saddr"), ("forward", "daddr"), ("output", "daddr")];

#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    kind: &'static str,
    pub(super) v4: bool,
    /// Whether it says what is never blocked.
    pub(super) excepts: bool,
}

/// Commands that make the table and the sets where they are not there.
pub(super) fn sets() -> Vec<Value> {
    let table = json!({ "add": { "table": { "family": "inet", "name": TABLE } } });
    let set = |set: &Set| {
        let set =
            json!({ "family": "inet", "table": TABLE, "name": set.name, "type": set.kind, "flags": ["interval"] });
        json!({ "add": { "set": set } })
    };
    std::iter::once(table).chain(SETS.iter().map(set)).collect()
}

/// Commands that make the chains, and the rules whose comments are not among these.
pub(super) fn rules(there: &[String]) -> Vec<Value> {
    let chain = |name: &&str| {
        let chain = json!({ "family": "inet", "table": TABLE, "name": name, "type": "filter", "hook": name,
                            "prio": PRIORITY, "policy": "accept" });
        json!({ "add": { "chain": chain } })
    };
    let mut commands: Vec<Value> = CHAINS.iter().map(chain).collect();
    for (chain, address) in RULES {
        for (protocol, version) in [("ip", "v4"), ("ip6", "v6")] {
            let comment = comment(address, version);
            if there.contains(&format!("{chain}: {comment}")) {
                continue;
            }
            let matches = |op: &str, set: &str| {
                let field = json!({ "payload": { "protocol": protocol, "field": address } });
                json!({ "match": { "op": op, "left": field, "right": format!("@{set}_{version}") } })
            };
            let steps =
                json!([matches("==", "blocked"), matches("!=", "excepted"), { "counter": null }, { "drop": null }]);
            let rule = json!({ "family": "inet", "table": TABLE, "chain": chain, "comment": comment, "expr": steps });
            commands.push(json!({ "add": { "rule": rule } }));
        }
    }
    commands
}

/// Tells one rule of a chain from the others.
fn comment(address: &str, version: &str) -> String {
    let way = if address == "saddr" { "from" } else { "to" };
    format!("{MARK}: {way} blocked {version}")
}

/// The same for people, and for `nft -f`.
pub(super) fn text() -> String {
    let mut text = format!("table inet {TABLE} {{\n");
    for set in SETS {
        text += &format!("    set {} {{\n        type {}\n        flags interval\n    }}\n\n", set.name, set.kind);
    }
    for chain in CHAINS {
        text += &format!(
            "    chain {chain} {{\n        type filter hook {chain} priority filter - {}; policy accept;\n",
            -PRIORITY
        );
        for (_, address) in RULES.iter().filter(|(of, _)| *of == chain) {
            for (protocol, version) in [("ip", "v4"), ("ip6", "v6")] {
                text += &format!(
                    "        {protocol} {address} @blocked_{version} {protocol} {address} != @excepted_{version} counter \
                     drop comment \"{}\"\n",
                    comment(address, version)
                );
            }
        }
        text += "    }\n";
    }
    text + "}\n"
}
