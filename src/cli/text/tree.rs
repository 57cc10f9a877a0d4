//! The cgroup tree, drawn.

use super::{escaped, path};
use crate::fleet::Node;

/// A cgroup with what is below it.
struct Branch<'n> {
    node: &'n Node,
    below: Vec<Self>,
}

impl<'n> Branch<'n> {
    /// Takes the first of `nodes`, and those after it that are below it.
    fn grow(nodes: &mut std::iter::Peekable<std::slice::Iter<'n, Node>>) -> Option<Self> {
        let node = nodes.next()?;
        let mut below = Vec::new();
        while nodes.peek().is_some_and(|next| next.depth > node.depth) {
            below.extend(Self::grow(nodes));
        }
        Some(Self { node, below })
    }

    /// Whether there is anything to be seen of it: it is held, or can't be read, or something below is so.
    fn is_of_note(&self) -> bool {
        self.node.is_frozen() || self.node.asks.is_none() || self.below.iter().any(Self::is_of_note)
    }

    fn draw(&self, lead: &str, all: bool, text: &mut String) {
        let (drawn, thawed): (Vec<&Self>, Vec<&Self>) =
            self.below.iter().partition(|branch| all || branch.is_of_note());
        for (at, branch) in drawn.iter().enumerate() {
            let is_last = at + 1 == drawn.len() && thawed.is_empty();
            let (fork, more) = if is_last {
                ("└─", "  ")
            } else {
                ("├─", "│ ")
            };
            let name = branch.node.path.file_name().unwrap_or_default().to_string_lossy();
            *text += &format!("{lead}{fork}{}{}\n", escaped(&name), mark(branch.node));
            branch.draw(&format!("{lead}{more}"), all, text);
        }
        if !thawed.is_empty() {
            *text += &format!("{lead}└─… {} thawed\n", thawed.len());
        }
    }
}

/// A tree as systemd-cgls draws it. Branches in which nothing is frozen are counted, unless `all` is to be seen.
pub(crate) fn tree(nodes: &[Node], all: bool) -> String {
    let Some(top) = Branch::grow(&mut nodes.iter().peekable()) else {
        return String::new();
    };
    let mut text = format!(
        "v{} {}{}\n",
        top.node.version,
        path(&top.node.path),
        mark(top.node)
    );
    top.draw("", all, &mut text);
    text
}

fn mark(node: &Node) -> &'static str {
    match (node.asks, node.inherits) {
        (Some(true), true) => "  frozen (itself, and by an ancestor)",
        (Some(true), false) => "  frozen (itself)",
        (_, true) => "  frozen (by an ancestor)",
        (None, false) => "  (can't be read)",
        (Some(false), false) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, asks: bool, inherits: bool) -> Node {
        Node {
            schema: 1,
            version: 2,
            path: path.into(),
            depth: path.matches('/').count() - usize::from(path == "/"),
            asks: Some(asks),
            inherits,
        }
    }

    #[test]
    fn what_is_thawed_is_counted_and_what_is_frozen_is_told_by_whom() {
        let nodes = [
            node("/", false, false),
            node("/a", false, false),
            node("/a/b", true, false),
            node("/a/b/c", false, true),
            node("/a/d", false, false),
            node("/e", false, false),
            node("/e/f", false, false),
        ];
        assert_eq!(
            tree(&nodes, false),
            "v2 /\n\
             ├─a\n\
             │ ├─b  frozen (itself)\n\
             │ │ └─c  frozen (by an ancestor)\n\
             │ └─… 1 thawed\n\
             └─… 1 thawed\n"
        );
        assert_eq!(
            tree(&nodes, true),
            "v2 /\n\
             ├─a\n\
             │ ├─b  frozen (itself)\n\
             │ │ └─c  frozen (by an ancestor)\n\
             │ └─d\n\
             └─e\n  \
               └─f\n"
        );
        assert_eq!(tree(&nodes[5..], false), "v2 /e\n└─… 1 thawed\n");
    }
}
