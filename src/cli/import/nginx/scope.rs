//! What holds at a place of a source: the directives of its own block, and of those around it what comes down to it.

use std::collections::HashMap;
use std::rc::Rc;

use super::catalogue::Contexts;
use super::tree::Directive;

/// One block, with its directives by name.
#[derive(Debug)]
pub(super) struct Level<'t> {
    /// Which kind of block it is.
    pub(super) kind: Contexts,
    /// Its directives in their order.
    pub(super) list: &'t [Directive],
    by_name: HashMap<&'t str, Vec<&'t Directive>>,
    /// Those that ask who comes in a way that nothing here knows.
    strange: Vec<&'t Directive>,
}

impl<'t> Level<'t> {
    pub(super) fn new(kind: Contexts, list: &'t [Directive]) -> Self {
        let mut by_name: HashMap<&str, Vec<&Directive>> = HashMap::new();
        for directive in list {
            by_name.entry(directive.name.as_str()).or_default().push(directive);
        }
        let strange = list.iter().filter(|one| super::guard::is_strange(&one.name)).collect();
        Self { kind, list, by_name, strange }
    }

    /// All directives of a name.
    pub(super) fn all(&self, name: &str) -> &[&'t Directive] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The first directive of a name.
    pub(super) fn first(&self, name: &str) -> Option<&'t Directive> {
        self.all(name).first().copied()
    }
}

/// Blocks, the outermost first.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope<'t> {
    levels: Vec<Rc<Level<'t>>>,
}

impl<'t> Scope<'t> {
    /// This scope with a block inside it.
    pub(super) fn with(&self, level: Rc<Level<'t>>) -> Self {
        let mut levels = self.levels.clone();
        levels.push(level);
        Self { levels }
    }

    /// This scope without its innermost blocks of this kind.
    pub(super) fn without(&self, kind: Contexts) -> Self {
        let mut levels = self.levels.clone();
        while levels.last().is_some_and(|level| level.kind & kind != 0) {
            levels.pop();
        }
        Self { levels }
    }

    /// The blocks, the innermost first.
    pub(super) fn inner(&self) -> impl Iterator<Item = &Level<'t>> {
        self.levels.iter().rev().map(Rc::as_ref)
    }

    /// What holds of a directive that is said once.
    pub(super) fn find(&self, name: &str) -> Option<&'t Directive> {
        self.inner().find_map(|level| level.first(name))
    }

    /// What holds of a directive that is said several times: all of the innermost block that has any.
    pub(super) fn all(&self, name: &str) -> Vec<&'t Directive> {
        self.inner()
            .map(|level| level.all(name))
            .find(|all| !all.is_empty())
            .map(<[_]>::to_vec)
            .unwrap_or_default()
    }

    /// The same of several directives that make one list, in the order of the source.
    pub(super) fn all_of(&self, names: &[&str]) -> Vec<&'t Directive> {
        for level in self.inner() {
            if names.iter().any(|name| !level.all(name).is_empty()) {
                return level.list.iter().filter(|one| names.contains(&one.name.as_str())).collect();
            }
        }
        Vec::new()
    }

    /// A directive that asks who comes in a way that nothing here knows, where one is on.
    pub(super) fn strange(&self) -> Option<&'t Directive> {
        let mut decided: Vec<&str> = Vec::new();
        for level in self.inner() {
            for one in level.strange.iter().copied() {
                if decided.contains(&one.name.as_str()) {
                    continue;
                }
                if one.word(0) != "off" {
                    return Some(one);
                }
                decided.push(&one.name);
            }
        }
        None
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.find(name).is_some_and(|directive| directive.word(0) == "on")
    }
}
