//! Where a request says that it goes to and comes from: a web page that made a browser call us is refused.

use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::Authority;
use http::{HeaderValue, Uri};

use super::HttpRules;
use super::refused::Refused;

/// Names of this machine, for itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A name, and a port if it must be that one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    host: String,
    port: Option<u16>,
}

impl Named {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        // An address of version 6 may be written without its brackets.
        let bracketed = text.parse::<std::net::Ipv6Addr>().map(|address| format!("[{address}]"));
        let (text, any_port) = match text.strip_suffix(":*") {
            Some(text) => (text.to_owned(), true),
            None => (bracketed.unwrap_or_else(|_| text.to_owned()), false),
        };
        let authority: Authority = text.parse().ok()?;
        let is_whole = !authority.host().is_empty() && !authority.as_str().contains('@') && has_its_port(&authority);
        let named = Self { host: normal(authority.host()), port: authority.port_u16() };
        (is_whole && !(any_port && named.port.is_some())).then_some(named)
    }

    fn is(&self, other: &Self) -> bool {
        self.host == other.host && self.port.is_none_or(|port| other.port == Some(port))
    }
}

/// Whether what stands behind the host is a port.
fn has_its_port(authority: &Authority) -> bool {
    authority.port_u16().is_some() || authority.as_str().len() == authority.host().len()
}

fn normal(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// The scheme, host and port of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    named: Named,
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        ["http", "https"].contains(&scheme.as_str()).then_some(())?;
        Some(Self { scheme, named: Named::read(rest)? })
    }
}

/// The names that are let in.
pub struct Gate {
    hosts: Vec<Named>,
    origins: Vec<Origin>,
    /// What of the rules could not be read.
    pub unread: Vec<String>,
}

impl Gate {
    /// A list of which nothing can be read leaves loopback alone: a slip of the pen opens nothing.
    pub fn new(rules: &HttpRules) -> Self {
        let mut unread = Vec::new();
        let mut read = |what: &str, text: &String, form: &str, is_read: bool| {
            if !is_read {
                unread.push(format!("{what}: {text:?} is none: write it as {form}"));
            }
        };
        let mut hosts: Vec<Named> = LOOPBACK.iter().filter_map(|name| Named::read(name)).collect();
        for text in &rules.hosts {
            let named = Named::read(text);
            read("http.hosts", text, "mesh.example or mesh.example:7480", named.is_some());
            hosts.extend(named);
        }
        let mut origins = Vec::new();
        for scheme in ["http", "https"] {
            let of = |name: &&str| Some(Origin { scheme: scheme.to_owned(), named: Named::read(name)? });
            origins.extend(LOOPBACK.iter().filter_map(of));
        }
        for text in &rules.origins {
            let origin = Origin::read(text);
            read("http.origins", text, "https://app.example.com", origin.is_some());
            origins.extend(origin);
        }
        Self { hosts, origins, unread }
    }

    /// Lets a request in, and gives the host that it was sent to.
    ///
    /// # Errors
    /// 400 without a host, 403 for another's.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, Refused> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (Some(Ok(host)), None) => host,
            (None, None) => uri.authority().map_or("", Authority::as_str),
            (Some(_), _) | (None, Some(_)) => "",
        };
        let Some(named) = Named::read(host) else {
            let fix = "send one Host header with the name and port of this server";
            return Err(Refused::new(400, "no_host", "the request names no host, or what is none", fix));
        };
        if !self.hosts.iter().any(|allowed| allowed.is(&named)) {
            let message = format!("this server is not called {:?}", named.host);
            let fix = "call it localhost, or name it in `http.hosts` of the node's configuration";
            return Err(Refused::new(403, "host_not_allowed", message, fix));
        }
        self.check_origin(headers)?;
        Ok(host.to_owned())
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refused> {
        for origin in headers.get_all(ORIGIN) {
            let read = origin.to_str().ok().and_then(Origin::read);
            let allowed = |read: &Origin| {
                self.origins.iter().any(|allowed| allowed.scheme == read.scheme && allowed.named.is(&read.named))
            };
            if !read.as_ref().is_some_and(allowed) {
                let message = "pages of this origin may not call this server";
                let fix = "name the origin in `http.origins` of the node's configuration, as https://app.example.com";
                return Err(Refused::new(403, "origin_not_allowed", message, fix));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(hosts: &[&str], origins: &[&str]) -> Gate {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Gate::new(&HttpRules { hosts: owned(hosts), origins: owned(origins), ..HttpRules::default() })
    }

    fn status(gate: &Gate, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        gate.check(&Uri::from_static("/mcp"), &map).map_or_else(|refused| refused.status, |_| 200)
    }

    #[test]
    fn loopback_is_let_in_and_all_other_names_are_not() {
        let gate = gate(&[], &[]);
        for host in ["localhost", "LOCALHOST:7480", "127.0.0.1:1", "[::1]:7480", "[::1]"] {
            assert_eq!(status(&gate, &[("host", host)]), 200, "{host}");
        }
        for host in
            ["evil.example", "evil.example:7480", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]
        {
            assert_eq!(status(&gate, &[("host", host)]), 403, "{host}");
        }
        for host in ["", "localhost@evil.example", "local host", "localhost:port"] {
            assert_eq!(status(&gate, &[("host", host)]), 400, "{host}");
        }
        assert_eq!(status(&gate, &[]), 400);
        assert_eq!(status(&gate, &[("host", "localhost"), ("host", "evil.example")]), 400);
    }

    #[test]
    fn a_page_of_another_origin_is_not_let_in() {
        let gate = gate(&[], &["https://app.example:8443"]);
        let with = |origin: &str| status(&gate, &[("host", "localhost"), ("origin", origin)]);
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:80", "https://app.example:8443"] {
            assert_eq!(with(origin), 200, "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "",
            "http://localhost.evil.example",
            "https://app.example",
            "ftp://localhost",
        ] {
            assert_eq!(with(origin), 403, "{origin}");
        }
        assert_eq!(
            status(&gate, &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://e")]),
            403
        );
    }

    #[test]
    fn a_list_that_cannot_be_read_opens_nothing_and_is_told() {
        for list in [&[""][..], &["*"], &["http://"], &[" , "], &["a b"]] {
            let gate = gate(list, list);
            assert_eq!(status(&gate, &[("host", "localhost"), ("origin", "http://localhost")]), 200);
            assert_eq!(status(&gate, &[("host", "evil.example")]), 403);
            assert_eq!(status(&gate, &[("host", "localhost"), ("origin", "http://evil.example")]), 403);
            assert!(!gate.unread.is_empty(), "{list:?}");
        }
    }

    #[test]
    fn a_host_with_a_port_is_let_in_by_that_port_only() {
        let gate = gate(&["mesh.example:7480", "other.example:*", "fe80::1"], &[]);
        assert_eq!(status(&gate, &[("host", "mesh.example:7480")]), 200);
        assert_eq!(status(&gate, &[("host", "mesh.example:80")]), 403);
        assert_eq!(status(&gate, &[("host", "other.example:80")]), 200);
        assert_eq!(status(&gate, &[("host", "[fe80::1]:80")]), 200);
    }
}
