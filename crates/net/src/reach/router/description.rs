//! What a router says of itself: where the service is that opens ports.

use roxmltree::{Document, Node};

/// In the order of preference. The second version asks the first's questions too.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// A service of a router that opens ports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub service: &'static str,
    /// The path, or the URL, that is asked.
    pub control: String,
}

/// # Errors
/// In words, if `text` describes no such service.
pub(super) fn read(text: &str) -> Result<Described, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let services: Vec<Node<'_, '_>> = document.descendants().filter(|node| node.has_tag_name_of("service")).collect();
    let described = SERVICES.iter().find_map(|service| {
        let of_type = services.iter().find(|node| node.child_text("serviceType") == Some(service))?;
        Some(Described { service, control: of_type.child_text("controlURL")?.to_owned() })
    });
    described.ok_or_else(|| "it names no service that opens ports".to_owned())
}

/// Names are compared without their namespaces, of which routers make what they like.
pub(super) trait ByName<'a> {
    fn has_tag_name_of(&self, name: &str) -> bool;
    fn child_text(&self, name: &str) -> Option<&'a str>;
}

impl<'a> ByName<'a> for Node<'a, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }

    fn child_text(&self, name: &str) -> Option<&'a str> {
        self.children().find(|node| node.has_tag_name_of(name))?.text().map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(services: &str) -> String {
        format!(
            r#"<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceList><device>
            <serviceList>{services}</serviceList></device></deviceList></device></root>"#
        )
    }

    fn service(kind: &str, control: &str) -> String {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType><controlURL>{control}</controlURL></service>"
        )
    }

    #[test]
    fn the_newest_service_that_opens_ports_is_taken() {
        let both = service("WANIPConnection:1", "/one") + &service("WANIPConnection:2", "/two");
        let read = |services: &str| read(&root(services)).map(|described| described.control);
        assert_eq!(read(&both), Ok("/two".into()));
        assert_eq!(read(&service("WANPPPConnection:1", " /ppp ")), Ok("/ppp".into()));
        assert!(read(&service("Layer3Forwarding:1", "/l3")).unwrap_err().contains("no service"));
    }

    #[test]
    fn what_is_no_description_is_said_so() {
        for wrong in ["", "nonsense", "<root>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
