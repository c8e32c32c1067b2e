//! The objects of a cluster, as far as the files have them: what is named by a kind, a namespace and a name.

use std::collections::HashMap;

use super::super::report::{Place, Report, Verdict};
use super::super::tree::{Document, Node};

/// An object of Kubernetes' API.
#[derive(Debug, Clone)]
pub(super) struct Object<'a> {
    /// What it is, such as `Ingress`.
    pub(super) kind: &'a str,
    /// The group of its API, `""` for the core.
    pub(super) group: &'a str,
    /// The version of its API.
    pub(super) version: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// Its namespace, also of kinds that have none.
    pub(super) namespace: &'a str,
    /// Where its name stands.
    pub(super) at: Place,
    /// All of it.
    pub(super) node: &'a Node,
}

/// Where an object is without saying so.
const NAMESPACE: &str = "default";

/// Lists are looked into so deeply.
const NESTED_MAX: usize = 4;

impl<'a> Object<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let kind = node.get("kind")?.text()?;
        let api = node.get("apiVersion").and_then(Node::text).unwrap_or("");
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let text = |name: &str| node.below(&["metadata", name]).and_then(Node::text);
        let at = node.below(&["metadata", "name"]).map_or(node.at, |name| name.at);
        Some(Self {
            kind,
            group,
            version,
            name: text("name").unwrap_or(""),
            namespace: text("namespace").filter(|name| !name.is_empty()).unwrap_or(NAMESPACE),
            at,
            node,
        })
    }

    /// What is wrong with its names.
    fn misnamed(&self) -> Option<&'static str> {
        if self.name.is_empty() {
            return Some("an object has a name");
        }
        if !is_name(self.name) && !is_role(self.kind) {
            return Some("a name is made of small letters, digits, dashes and dots");
        }
        (!is_name(self.namespace)).then_some("a namespace is made of small letters, digits and dashes")
    }

    /// The value behind several names of its `spec`.
    pub(super) fn spec(&self, names: &[&str]) -> Option<&'a Node> {
        names.iter().try_fold(self.node.get("spec")?, |node, name| node.get(name))
    }

    /// When it was made, as far as it is said: times of RFC 3339 in UTC are in the order of their text.
    pub(super) fn born(&self) -> Option<&'a str> {
        let born = self.node.below(&["metadata", "creationTimestamp"])?.text()?;
        (born.len() >= 20 && born.ends_with('Z')).then_some(born)
    }

    /// `Ingress shop/checkout`.
    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// Its annotations, each with where it stands.
    pub(super) fn annotations(&self) -> &'a [(super::super::tree::Key, Node)] {
        self.node.below(&["metadata", "annotations"]).map_or(&[], Node::pairs)
    }
}

/// All objects of the files, in their order.
#[derive(Debug, Default)]
pub(super) struct Cluster<'a> {
    pub(super) objects: Vec<Object<'a>>,
    index: HashMap<(&'a str, &'a str, &'a str), usize>,
    by_kind: HashMap<&'a str, Vec<usize>>,
    /// Slices of endpoints by the namespace and name of their Service.
    slices: HashMap<(&'a str, &'a str), Vec<usize>>,
}

/// What says of a slice which Service it is of.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

impl<'a> Cluster<'a> {
    /// Takes in what documents say, and tells what is no object.
    pub(super) fn read(&mut self, documents: &'a [Document], report: &mut Report) {
        for document in documents {
            if document.tell(report) && !document.root.is_empty() {
                self.take(&document.root, 0, report);
            }
            for twice in &document.twice {
                let (first, again) = (twice.first.line, twice.again.line);
                report.wrong(
                    twice.again,
                    format!("`{}` is there already, on line {first}: kubectl refuses that, else the later one counts, as here", twice.name),
                );
                report.wrong(
                    twice.first,
                    format!("`{}` is there again, on line {again}, and that counts", twice.name),
                );
                for at in twice.lost.iter().filter(|at| at.line != again) {
                    if report.says(*at) && report.remarks(*at).is_empty() {
                        report.ignored(*at, format!("as line {first}"));
                    }
                }
            }
        }
    }

    fn take(&mut self, node: &'a Node, depth: usize, report: &mut Report) {
        let Some(object) = Object::of(node) else {
            let what = if node.pairs().is_empty() { "this is no object" } else { "an object has a `kind`" };
            let text = format!("{what}: Kubernetes takes objects with apiVersion, kind and metadata");
            report.wrong(node.at, text);
            super::field::rest(node, node.at, report);
            return;
        };
        if object.kind.eq_ignore_ascii_case("Secret") {
            super::secret::hide(&object, report);
        }
        if let Some(why) = object.misnamed().filter(|_| !object.kind.ends_with("List")) {
            report.wrong(object.at, format!("{why}: Kubernetes refuses the object, and it is left out"));
            super::field::rest(node, object.at, report);
            return;
        }
        if object.kind.ends_with("List") && node.get("items").is_some() && depth < NESTED_MAX {
            for (key, value) in node.pairs() {
                report.translated(key.at);
                if key.text != "items" {
                    value.tell(Verdict::Translated, "", report);
                }
            }
            if let Some((key, items)) = node.entry("items")
                && items.items().is_empty()
                && !items.is_empty()
            {
                report.wrong(key.at, "this is a list of objects: Kubernetes refuses it");
                super::field::rest(items, key.at, report);
            }
            for item in node.get("items").map_or(&[][..], Node::items) {
                self.take(item, depth + 1, report);
            }
            return;
        }
        let key = (object.kind, object.namespace, object.name);
        let at = *self.index.entry(key).or_insert(self.objects.len());
        if let Some(first) = self.objects.get(at) {
            report.wrong(
                first.at,
                format!(
                    "{} is there again, on line {}, and the later one counts",
                    object.title(),
                    object.at.line
                ),
            );
            super::field::rest(first.node, first.at, report);
            report
                .wrong(object.at, format!("{} is there already, on line {}", object.title(), first.at.line));
            let of = slice_of(first).and_then(|service| self.slices.get_mut(&(first.namespace, service)));
            of.into_iter().for_each(|of| of.retain(|known| *known != at));
        }
        if at == self.objects.len() {
            self.by_kind.entry(object.kind).or_default().push(at);
        }
        if let Some(service) = slice_of(&object) {
            self.slices.entry((object.namespace, service)).or_default().push(at);
        }
        match self.objects.get_mut(at) {
            Some(first) => *first = object,
            None => self.objects.push(object),
        }
    }

    /// The object of that kind and name.
    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Object<'a>> {
        self.objects.get(*self.index.get(&(kind, namespace, name))?)
    }

    /// All objects of a kind.
    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = &Object<'a>> {
        self.by_kind.get(kind).into_iter().flatten().filter_map(|at| self.objects.get(*at))
    }

    /// The slices of endpoints of a Service.
    pub(super) fn slices(&self, namespace: &str, service: &str) -> Vec<&Object<'a>> {
        let of = self.slices.get(&(namespace, service));
        of.into_iter().flatten().filter_map(|at| self.objects.get(*at)).collect()
    }
}

/// The Service that a slice of endpoints is of.
fn slice_of<'a>(object: &Object<'a>) -> Option<&'a str> {
    let label = || object.node.below(&["metadata", "labels", SERVICE_LABEL])?.text();
    (object.kind == "EndpointSlice").then(label).flatten()
}

/// Whether Kubernetes takes this for a name.
#[must_use]
pub(super) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(plain)
        && text.starts_with(edge)
        && text.ends_with(edge)
}

/// Whether objects of a kind may have other names.
fn is_role(kind: &str) -> bool {
    kind.ends_with("Role") || kind.ends_with("RoleBinding")
}

/// `NAMESPACE/NAME`, or a name in the namespace that it is said in.
#[must_use]
pub(super) fn split_name<'t>(text: &'t str, namespace: &'t str) -> (&'t str, &'t str) {
    text.split_once('/').unwrap_or((namespace, text))
}
