//! Which tools a client sees and may call: chosen at the start or by a path, changed by no call.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::answer::{Next, ToolError};
use super::catalog::{CORE, Catalog, Category, Reach, Scope, Tool, search};
use crate::messages::mount::MountedTool;
use serde_json::json;

/// What the command line asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SurfaceOptions {
    /// Names of surfaces, of which all tools are listed; none: the manager's, through which all others are called.
    pub toolset: Vec<String>,
    pub read_only: bool,
    /// Another word for the toolset `full`, where no toolset is named.
    pub flat: bool,
}

/// The name of a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SurfaceName {
    /// Five tools that find and call the others.
    Manager,
    /// What an agent does all day, listed directly, and the way to the others.
    Core,
    /// Every tool, listed directly.
    Full,
    /// One category, listed directly; with it, no others may be called.
    Category(Category),
}

impl SurfaceName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Core => "core",
            Self::Full => "full",
            Self::Category(category) => category.name(),
        }
    }

    /// All names, in the order in which they are told.
    pub fn all() -> impl Iterator<Item = Self> {
        let categories = Category::ALL.into_iter().filter(|category| *category != Category::Manager);
        [Self::Manager, Self::Core, Self::Full].into_iter().chain(categories.map(Self::Category))
    }

    /// # Errors
    /// If no surface has this name.
    pub fn named(name: &str) -> Result<Self, UnknownToolsetError> {
        let named = Self::all().find(|surface| surface.name() == name);
        named.ok_or_else(|| UnknownToolsetError { name: name.chars().take(80).collect() })
    }

    /// The surface of this name alone.
    pub fn surface(self, catalog: &'static Catalog, read_only: bool) -> Surface {
        Surface::of(catalog, BTreeSet::from([self]), read_only)
    }

    fn lists(self, tool: &Tool) -> bool {
        let category = tool.entry.category;
        match self {
            Self::Manager => category == Category::Manager,
            Self::Core => CORE.contains(&tool.entry.name),
            Self::Full => category != Category::Manager,
            Self::Category(own) => category == own,
        }
    }
}

/// A toolset that has no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a toolset; the toolsets are {}", toolsets())]
pub struct UnknownToolsetError {
    pub name: String,
}

fn toolsets() -> String {
    SurfaceName::all().map(SurfaceName::name).collect::<Vec<_>>().join(", ")
}

/// The tools of one client. A clone shares all but the scope and the namespace.
#[derive(Clone)]
pub struct Surface {
    chosen: Arc<Chosen>,
    scope: Scope,
    /// What the client is kept to.
    namespace: Option<Arc<str>>,
}

struct Chosen {
    catalog: &'static Catalog,
    names: BTreeSet<SurfaceName>,
    /// The categories whose tools may be called; none: all.
    bound: BTreeSet<Category>,
    read_only: bool,
}

impl Surface {
    /// # Errors
    /// If a toolset has no such name.
    pub fn new(catalog: &'static Catalog, options: &SurfaceOptions) -> Result<Self, UnknownToolsetError> {
        let named: Result<BTreeSet<_>, _> = options.toolset.iter().map(|name| SurfaceName::named(name)).collect();
        let unnamed = if options.flat { SurfaceName::Full } else { SurfaceName::Manager };
        let names = Some(named?).filter(|names| !names.is_empty()).unwrap_or_else(|| BTreeSet::from([unnamed]));
        Ok(Self::of(catalog, names, options.read_only))
    }

    /// The tools of surfaces, for who may do everything.
    pub fn of(catalog: &'static Catalog, names: BTreeSet<SurfaceName>, read_only: bool) -> Self {
        let category = |name: &SurfaceName| match name {
            SurfaceName::Category(category) => Some(*category),
            SurfaceName::Manager | SurfaceName::Core | SurfaceName::Full => None,
        };
        let is_wide = names.contains(&SurfaceName::Core) || names.contains(&SurfaceName::Full);
        let bound = if is_wide { BTreeSet::new() } else { names.iter().filter_map(category).collect() };
        Self { chosen: Arc::new(Chosen { catalog, names, bound, read_only }), scope: Scope::Admin, namespace: None }
    }

    /// The same for a caller of `scope`.
    pub fn within(&self, scope: Scope) -> Self {
        Self { scope, ..self.clone() }
    }

    /// The same for a caller that is kept to a namespace.
    #[must_use]
    pub fn kept_to(self, namespace: Option<Arc<str>>) -> Self {
        Self { namespace, ..self }
    }

    /// Every tool that the same caller may call.
    pub fn unbound(&self) -> Self {
        let Chosen { catalog, read_only, .. } = *self.chosen;
        SurfaceName::Full.surface(catalog, read_only).within(self.scope).kept_to(self.namespace.clone())
    }

    /// What `tools/list` shows, in the order of the table.
    pub fn listed(&self) -> impl Iterator<Item = &'static Tool> {
        let listed = |tool: &&Tool| self.chosen.names.iter().any(|name| name.lists(tool));
        self.chosen.catalog.tools().iter().filter(listed).filter(|tool| self.permits(tool))
    }

    /// The tools that the manager's tools find and call.
    pub fn reachable(&self) -> impl Iterator<Item = &'static Tool> {
        let found = |tool: &&Tool| tool.entry.category != Category::Manager && self.calls(tool.entry.category);
        self.chosen.catalog.tools().iter().filter(found).filter(|tool| self.permits(tool))
    }

    fn calls(&self, category: Category) -> bool {
        let bound = &self.chosen.bound;
        category == Category::Manager || bound.is_empty() || bound.contains(&category)
    }

    fn permits(&self, tool: &Tool) -> bool {
        let is_changing = self.chosen.read_only && tool.entry.writes();
        !is_changing && tool.entry.scope <= self.scope && self.reaches(tool)
    }

    fn reaches(&self, tool: &Tool) -> bool {
        match tool.entry.reach {
            Reach::Namespace | Reach::Anyone => true,
            Reach::Node => self.namespace.is_none(),
        }
    }

    /// Whether tools of mounted servers are found and called: beside all others, or not at all. They know no namespaces.
    pub fn reaches_mounts(&self) -> bool {
        self.chosen.bound.is_empty() && self.namespace.is_none()
    }

    /// Whether a tool of a mounted server is shown.
    pub fn permits_mounted(&self, tool: &MountedTool) -> bool {
        self.check(&tool.full_name(), !tool.read_only, scope_of(tool)).is_ok()
    }

    /// Whether a tool of a mounted server may be called.
    ///
    /// # Errors
    /// As [`Surface::find`].
    pub fn check_mounted(&self, tool: &MountedTool) -> Result<(), ToolError> {
        self.check(&tool.full_name(), !tool.read_only, scope_of(tool))
    }

    /// The tool that a call names.
    ///
    /// # Errors
    /// `unknown_tool` with the nearest names, `not_in_toolset`, `read_only`, `low_scope`, or `whole_node`.
    pub fn find(&self, name: &str) -> Result<&'static Tool, ToolError> {
        let tool = self.chosen.catalog.find(name).ok_or_else(|| self.unknown(name))?;
        let entry = tool.entry;
        if !self.calls(entry.category) {
            let category = entry.category.name();
            let message = format!("{name} is in the toolset {category}, which this server was started without");
            let fix = format!("start node-mcp with --toolset {category}; over HTTP use the path /mcp/x/{category}");
            return Err(ToolError::new("not_in_toolset", message, fix));
        }
        self.check(name, entry.writes(), entry.scope)?;
        match &self.namespace {
            Some(namespace) if !self.reaches(tool) => Err(whole_node(name, namespace)),
            Some(_) | None => Ok(tool),
        }
    }

    fn check(&self, name: &str, writes: bool, scope: Scope) -> Result<(), ToolError> {
        if self.chosen.read_only && writes {
            let message = format!("{name} changes something, and this surface is read-only");
            let fix = "leave --read-only out; over HTTP use the path without /readonly";
            return Err(ToolError::new("read_only", message, fix));
        }
        if scope > self.scope {
            let (needs, has) = (scope.name(), self.scope.name());
            let message = format!("{name} needs the scope {needs}, and this caller has {has}");
            let fix = format!("use a token of scope {needs}, or --scope {needs} of node-mcp and nodectl tool");
            return Err(ToolError { needs: Some(scope), ..ToolError::new("low_scope", message, fix) });
        }
        Ok(())
    }

    /// The tools whose names are most like this one, each by the name of it that is.
    fn near(&self, name: &str) -> Vec<&'static str> {
        let tools = self.reachable().chain(self.listed());
        let names = tools.flat_map(|tool| tool.entry.aliases.iter().copied().chain([tool.entry.name]));
        let mut told = BTreeSet::new();
        let is_new = |near: &&str| self.chosen.catalog.find(near).is_some_and(|tool| told.insert(tool.entry.name));
        search::alike(name, names).filter(is_new).take(search::NEAR_MAX).collect()
    }

    fn unknown(&self, name: &str) -> ToolError {
        let near = self.near(name);
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

fn whole_node(name: &str, namespace: &str) -> ToolError {
    let message = format!("{name} is about the whole node, and this caller is kept to the namespace {namespace}");
    ToolError::new("whole_node", message, "use a token without a namespace; whoever runs the node makes one")
}

/// A word that this version does not know asks for the most.
fn scope_of(tool: &MountedTool) -> Scope {
    tool.scope.parse().unwrap_or(Scope::Admin)
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
    fn core_lists_little_and_reaches_all() {
        let core = surface(&["core"], false, false);
        assert_eq!(core.listed().count(), CORE.len(), "each name is an entry of the table");
        assert_eq!(names(core.reachable()), names(surface(&[], false, false).reachable()));
        assert_eq!(surface(&["core", "workflow"], false, false).reachable().count(), core.reachable().count());
    }

    #[test]
    fn flat_is_another_word_for_full_where_no_toolset_is_named() {
        let full = surface(&["full"], false, false);
        assert_eq!(names(full.listed()), names(surface(&[], false, true).listed()));
        assert_eq!(names(full.listed()), names(full.reachable()));
        let workflow = surface(&["workflow"], false, true);
        assert_eq!(names(workflow.listed()), names(surface(&["workflow"], false, false).listed()));
    }

    #[test]
    fn a_low_scope_hides_and_refuses_what_needs_more() {
        for scope in Scope::ALL {
            let surface = surface(&["full"], false, false).within(scope);
            for tool in Catalog::shared().tools() {
                let (needed, found) = (tool.entry.scope, surface.find(tool.entry.name));
                assert_eq!(found.as_ref().err().and_then(|error| error.needs), (needed > scope).then_some(needed));
                assert_eq!(found.err().map(|error| error.code), (needed > scope).then_some("low_scope"));
            }
            assert!(surface.listed().chain(surface.reachable()).all(|tool| tool.entry.scope <= scope));
        }
    }

    #[test]
    fn who_is_kept_to_a_namespace_neither_sees_nor_calls_what_is_about_the_whole_node() {
        let kept = surface(&["full"], false, false).kept_to(Some("books".into()));
        for tool in Catalog::shared().tools() {
            let (refused, is_node) = (kept.find(tool.entry.name).err(), tool.entry.reach == Reach::Node);
            assert_eq!(refused.map(|error| error.code), is_node.then_some("whole_node"), "{}", tool.entry.name);
        }
        assert!(kept.listed().chain(kept.reachable()).all(|tool| tool.entry.reach != Reach::Node));
        assert!(!kept.reaches_mounts() && !kept.unbound().reaches_mounts());
        assert!(kept.unbound().find("list_peers").is_err());
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
            ("workflow_stats", "workflow_status"),
            ("task_submitt", "did you mean task_submit?"),
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
