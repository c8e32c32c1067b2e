//! Who may name whom over the border of a namespace, and which namespaces a selector means.

use super::super::super::tree::Node;
use super::super::object::Cluster;

/// Whether a ReferenceGrant lets a kind of a namespace name an object of another one.
pub(super) fn allows(
    cluster: &Cluster<'_>,
    (from_group, from_kind, from_namespace): (&str, &str, &str),
    (group, kind, namespace, name): (&str, &str, &str, &str),
) -> bool {
    if namespace == from_namespace {
        return true;
    }
    let is =
        |node: &Node, field: &str, want: &str| node.get(field).and_then(Node::text).unwrap_or("") == want;
    cluster.of("ReferenceGrant").filter(|grant| grant.namespace == namespace).any(|grant| {
        let list = |field: &'static str| grant.spec(&[field]).map_or(&[][..], Node::items);
        let from = list("from").iter().any(|node| {
            is(node, "group", from_group)
                && is(node, "kind", from_kind)
                && is(node, "namespace", from_namespace)
        });
        let to = list("to").iter().any(|node| {
            let named = node.get("name").and_then(Node::text).is_none_or(|own| own.is_empty() || own == name);
            is(node, "group", group) && is(node, "kind", kind) && named
        });
        from && to
    })
}

/// Whether a selector of labels means a namespace, as far as the files have it.
pub(super) fn selects(selector: &Node, namespace: &str, cluster: &Cluster<'_>) -> bool {
    let object = cluster.of("Namespace").find(|object| object.name == namespace);
    let label = |name: &str| {
        if name == "kubernetes.io/metadata.name" {
            return Some(namespace);
        }
        object?.node.below(&["metadata", "labels", name])?.text()
    };
    let pairs = selector.get("matchLabels").map_or(&[][..], Node::pairs);
    let all = pairs.iter().all(|(key, value)| label(&key.text).is_some() && label(&key.text) == value.text());
    let expressions = selector.get("matchExpressions").map_or(&[][..], Node::items);
    all && expressions.iter().all(|node| {
        let key = node.get("key").and_then(Node::text).unwrap_or("");
        let values = node.get("values").map_or(&[][..], Node::items);
        let own = label(key);
        let is_in = own.is_some() && values.iter().any(|value| value.text() == own);
        match node.get("operator").and_then(Node::text) {
            Some("In") => is_in,
            Some("NotIn") => !is_in,
            Some("Exists") => own.is_some(),
            Some("DoesNotExist") => own.is_none(),
            _ => false,
        }
    })
}
