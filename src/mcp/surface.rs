//! Which tools a client sees and may call: chosen at the start, changed by no call.

use std::collections::BTreeSet;

use super::answer::{Next, ToolError};
use super::catalog::{Catalog, Category, Tool, search};
use serde_json::json;

/// What the command line asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SurfaceOptions {
    /// Categories to list directly; none: the manager's tools, through which all others are called.
    pub toolset: Vec<String>,
    pub read_only: bool,
    /// List every tool directly.
    pub flat: bool,
}

/// A `--toolset` that names no category.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a toolset; the toolsets are {}", Category::ALL.map(Category::name).join(", "))]
pub struct UnknownToolsetError {
    pub name: String,
}

pub struct Surface {
    catalog: &'static Catalog,
    /// Categories that are listed.
    listed: BTreeSet<Category>,
    /// Categories whose tools may be called.
    callable: BTreeSet<Category>,
    read_only: bool,
}

impl Surface {
    /// # Errors
    /// If a toolset has no such name.
    pub fn new(catalog: &'static Catalog, options: &SurfaceOptions) -> Result<Self, UnknownToolsetError> {
        let named = |name: &String| Category::named(name).ok_or_else(|| UnknownToolsetError { name: name.clone() });
        let toolset: BTreeSet<Category> = options.toolset.iter().map(named).collect::<Result<_, _>>()?;
        let all = BTreeSet::from(Category::ALL);
        let direct: BTreeSet<Category> =
            all.iter().copied().filter(|category| *category != Category::Manager).collect();
        let bound: BTreeSet<Category> = toolset.intersection(&direct).copied().collect();
        let allowed = if bound.is_empty() { direct } else { bound };
        let listed = match (options.flat, toolset.is_empty()) {
            (true, _) => allowed.clone(),
            (false, true) => BTreeSet::from([Category::Manager]),
            (false, false) => toolset,
        };
        let callable = allowed.into_iter().chain([Category::Manager]).collect();
        Ok(Self { catalog, listed, callable, read_only: options.read_only })
    }

    /// What `tools/list` shows, in the order of the table.
    pub fn listed(&self) -> impl Iterator<Item = &'static Tool> {
        self.catalog.tools().iter().filter(|tool| self.listed.contains(&tool.entry.category) && self.permits(tool))
    }

    /// The tools that the manager's tools find and call.
    pub fn reachable(&self) -> impl Iterator<Item = &'static Tool> {
        let found =
            |tool: &&Tool| tool.entry.category != Category::Manager && self.callable.contains(&tool.entry.category);
        self.catalog.tools().iter().filter(found).filter(|tool| self.permits(tool))
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn permits(&self, tool: &Tool) -> bool {
        !(self.read_only && tool.entry.writes())
    }

    /// The tool that a call names.
    ///
    /// # Errors
    /// `unknown_tool` with the nearest names, `not_in_toolset`, or `read_only`.
    pub fn find(&self, name: &str) -> Result<&'static Tool, ToolError> {
        let tool = self.catalog.find(name).ok_or_else(|| self.unknown(name))?;
        if !self.callable.contains(&tool.entry.category) {
            let category = tool.entry.category.name();
            let message = format!("{name} is in the toolset {category}, which this server was started without");
            return Err(ToolError::new("not_in_toolset", message, format!("start node-mcp with --toolset {category}")));
        }
        if !self.permits(tool) {
            let message = format!("{name} changes something, and this server was started with --read-only");
            return Err(ToolError::new("read_only", message, "start node-mcp without --read-only"));
        }
        Ok(tool)
    }

    fn unknown(&self, name: &str) -> ToolError {
        let names = self.reachable().map(|tool| tool.entry.name);
        let near = search::nearest(name, names.chain(self.listed().map(|tool| tool.entry.name)));
        let fix = match near.split_first() {
            Some((first, [])) => format!("did you mean {first}?"),
            Some((first, others)) => format!("did you mean {first}? Other near names: {}", others.join(", ")),
            None => "find one with tools_list_tools".to_owned(),
        };
        let next = match near.first() {
            Some(first) => Next::new("tools_get_schema", json!({"names": [first]}), 0),
            None => Next::new("tools_list_tools", json!({}), 0),
        };
        let name: String = name.chars().take(80).collect();
        ToolError::new("unknown_tool", format!("there is no tool {name:?}"), fix).next(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(toolset: &[&str], read_only: bool, flat: bool) -> Surface {
        let toolset = toolset.iter().map(|name| (*name).to_owned()).collect();
        Surface::new(Catalog::shared(), &SurfaceOptions { toolset, read_only, flat }).unwrap()
    }

    fn names<'a>(tools: impl Iterator<Item = &'a Tool>) -> Vec<&'a str> {
        tools.map(|tool| tool.entry.name).collect()
    }

    #[test]
    fn the_manager_lists_its_own_tools_and_reaches_all_others() {
        let surface = surface(&[], false, false);
        assert!(names(surface.listed()).iter().all(|name| name.starts_with("tools_")));
        assert_eq!(surface.listed().count() + surface.reachable().count(), Catalog::shared().tools().len());
    }

    #[test]
    fn a_toolset_is_listed_directly_and_bounds_what_may_be_called() {
        let surface = surface(&["workflow"], false, false);
        assert_eq!(names(surface.listed()), names(surface.reachable()));
        assert!(surface.find("submit_p2p_workflow").is_ok());
        assert_eq!(surface.find("list_peers").err().map(|error| error.code), Some("not_in_toolset"));
        assert!(surface.find("tools_dispatch").is_ok());
    }

    #[test]
    fn read_only_hides_and_refuses_every_writer() {
        for flat in [false, true] {
            let surface = surface(&[], true, flat);
            for tool in Catalog::shared().tools() {
                let refused = surface.find(tool.entry.name).err().map(|error| error.code);
                assert_eq!(refused, tool.entry.writes().then_some("read_only"), "{}", tool.entry.name);
            }
            assert!(surface.listed().chain(surface.reachable()).all(|tool| !tool.entry.writes()));
        }
    }

    #[test]
    fn a_misspelt_tool_names_the_nearest() {
        let surface = surface(&[], false, false);
        for (wrong, right) in [
            ("p2p_taskqueue_sbmit", "p2p_taskqueue_submit"),
            ("get_task", "p2p_taskqueue_get_task"),
            ("workflow_stats", "get_workflow_status"),
            ("peers", "list_peers"),
            ("tools_dispatc", "tools_dispatch"),
        ] {
            let error = surface.find(wrong).err().unwrap();
            assert_eq!(error.code, "unknown_tool");
            assert!(error.fix.contains(right), "{wrong}: {}", error.fix);
        }
        assert!(surface.find("zzz").err().unwrap().fix.contains("tools_list_tools"));
        assert!(
            Surface::new(Catalog::shared(), &SurfaceOptions { toolset: vec!["x".into()], ..Default::default() })
                .is_err_and(|error| error.to_string().contains("taskqueue"))
        );
    }
}
