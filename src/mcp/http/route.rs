//! Paths: `/mcp`, `/mcp/core`, `/mcp/full`, `/mcp/x/{category}`, each with `/readonly` behind it or not.

use super::refused::{METADATA_PATH, Refused};
use crate::mcp::surface::SurfaceName;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Metadata,
    Surface { name: SurfaceName, read_only: bool },
}

impl Route {
    /// # Errors
    /// 404 with the paths that there are; 410 for those of the transport before this one.
    pub fn of(path: &str) -> Result<Self, Refused> {
        let path = path.trim_end_matches('/');
        if path.strip_prefix(METADATA_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with("/mcp")) {
            return Ok(Self::Metadata);
        }
        if ["/sse", "/messages", "/message", "/mcp/sse"].contains(&path) {
            return Err(Refused::old_transport(410));
        }
        let (path, read_only) = path.strip_suffix("/readonly").map_or((path, false), |path| (path, true));
        let named = SurfaceName::all().find(|name| path_of(*name) == path);
        let surface = |name| Self::Surface { name, read_only };
        named.map(surface).ok_or_else(unknown)
    }
}

fn path_of(name: SurfaceName) -> String {
    match name {
        SurfaceName::Manager => "/mcp".to_owned(),
        SurfaceName::Core | SurfaceName::Full => format!("/mcp/{}", name.name()),
        SurfaceName::Category(category) => format!("/mcp/x/{}", category.name()),
    }
}

fn unknown() -> Refused {
    let paths: Vec<String> = SurfaceName::all().map(path_of).collect();
    let fix = format!("use one of {}, with /readonly behind it if nothing shall change", paths.join(", "));
    Refused::new(404, "unknown_path", "nothing is served here", fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_surface_has_its_path_and_a_read_only_one() {
        for name in SurfaceName::all() {
            for (suffix, read_only) in [("", false), ("/", false), ("/readonly", true)] {
                let path = format!("{}{suffix}", path_of(name));
                assert_eq!(Route::of(&path), Ok(Route::Surface { name, read_only }), "{path}");
            }
        }
        assert_eq!(Route::of("/.well-known/oauth-protected-resource/mcp/core"), Ok(Route::Metadata));
    }

    #[test]
    fn an_unknown_path_is_told_those_that_there_are() {
        for path in ["", "/", "/mcp/x", "/mcp/x/moon", "/mcp/moon", "/mcp/readonly/core", "/mcpx", "/MCP"] {
            let refused = Route::of(path).unwrap_err();
            assert_eq!(refused.status, 404, "{path}");
            assert!(refused.fix.contains("/mcp/x/workflow") && refused.fix.contains("/readonly"), "{}", refused.fix);
        }
    }

    #[test]
    fn the_old_transport_is_refused_in_words() {
        let refused = Route::of("/sse").unwrap_err();
        assert_eq!((refused.status, refused.code), (410, "old_transport"));
        assert!(refused.fix.contains("POST"), "{}", refused.fix);
    }
}
