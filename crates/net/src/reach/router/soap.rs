//! Puts a question to a router's service, and reads the answer. It blocks.

use std::net::Ipv4Addr;
use std::time::Duration;

use roxmltree::Document;
use ureq::Agent;
use ureq::http::Uri;

use super::description::{self, ByName, Described};
use super::{Port, RouterError};
use crate::limits;

/// What a router says to one that may not be asked for a limited time.
const ONLY_FOR_EVER: u16 = 725;

/// What a router is asked for.
#[derive(Debug)]
pub(super) enum Action {
    ExternalIp,
    /// Lets others in at `port`, to the port of that number at `to`.
    Open {
        port: Port,
        to: Ipv4Addr,
    },
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::ExternalIp => "GetExternalIPAddress",
            Self::Open { .. } => "AddPortMapping",
        }
    }

    fn body(&self, service: &str, lease_s: u32) -> String {
        let arguments = match self {
            Self::ExternalIp => String::new(),
            Self::Open { port, to } => format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{number}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol><NewInternalPort>{number}</NewInternalPort>\
                 <NewInternalClient>{to}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>magpie</NewPortMappingDescription>\
                 <NewLeaseDuration>{lease_s}</NewLeaseDuration>",
                number = port.number,
                protocol = if port.is_tcp { "TCP" } else { "UDP" },
            ),
        };
        let name = self.name();
        format!(
            r#"<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:{name} xmlns:u="{service}">{arguments}</u:{name}></s:Body></s:Envelope>"#
        )
    }
}

/// A router's service that opens ports.
pub(super) struct Service {
    router: Ipv4Addr,
    agent: Agent,
    service: &'static str,
    url: String,
}

impl Service {
    /// Of the router that describes itself at the URL `description`.
    ///
    /// # Errors
    /// If it cannot be asked, or describes no such service at its own address.
    pub fn at(router: Ipv4Addr, description: &str) -> Result<Self, RouterError> {
        let settings = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(limits::ROUTER_CALL_MS)))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None);
        let agent: Agent = settings.build().into();
        let malformed = |reason| RouterError::Malformed { router, reason };
        let unreachable = |error: ureq::Error| RouterError::Unreachable { router, reason: error.to_string() };
        let mut answer = agent.get(description).call().map_err(unreachable)?;
        let text = limited(answer.body_mut()).map_err(unreachable)?;
        let Described { service, control } = description::read(&text).map_err(malformed)?;
        let url = control_url(description, &control)
            .ok_or_else(|| malformed(format!("its service is said to be at {control:?}, which is not the router")))?;
        Ok(Self { router, agent, service, url })
    }

    pub fn external_ip(&self) -> Result<Ipv4Addr, RouterError> {
        let answer = self.ask(&Action::ExternalIp)?;
        external_ip(&answer).map_err(|reason| RouterError::Malformed { router: self.router, reason })
    }

    /// The router's answer to `action`.
    pub fn ask(&self, action: &Action) -> Result<String, RouterError> {
        match self.ask_for(action, limits::ROUTER_LEASE_S) {
            Err(RouterError::Refused { code: ONLY_FOR_EVER, .. }) => self.ask_for(action, 0),
            other => other,
        }
    }

    fn ask_for(&self, action: &Action, lease_s: u32) -> Result<String, RouterError> {
        let unreachable =
            |error: ureq::Error| RouterError::Unreachable { router: self.router, reason: error.to_string() };
        let request = self.agent.post(&self.url);
        let request = request.header("Content-Type", "text/xml; charset=\"utf-8\"");
        let request = request.header("SOAPAction", format!("\"{}#{}\"", self.service, action.name()));
        let mut answer = request.send(action.body(self.service, lease_s)).map_err(unreachable)?;
        let (is_success, text) = (answer.status().is_success(), limited(answer.body_mut()).map_err(unreachable)?);
        if is_success {
            return Ok(text);
        }
        let (code, reason) = refusal(&text).unwrap_or((answer.status().as_u16(), "it does not say why".into()));
        Err(RouterError::Refused { router: self.router, code, reason })
    }
}

fn limited(body: &mut ureq::Body) -> Result<String, ureq::Error> {
    body.with_config().limit(limits::ROUTER_ANSWER_BYTES_MAX).read_to_string()
}

/// Where `control` is asked, as named by the description at `base`: nowhere but at the router.
fn control_url(base: &str, control: &str) -> Option<String> {
    let base: Uri = base.parse().ok()?;
    let own = base.authority()?;
    let named = match control {
        whole if whole.contains("://") => whole.to_owned(),
        path => format!("http://{own}/{}", path.trim_start_matches('/')),
    };
    let uri: Uri = named.parse().ok()?;
    (uri.scheme_str() == Some("http") && uri.host() == Some(own.host())).then_some(named)
}

fn external_ip(answer: &str) -> Result<Ipv4Addr, String> {
    let text = text_of(answer, "NewExternalIPAddress").ok_or("it says no address of its own")?;
    let ip: Option<Ipv4Addr> = text.parse().ok();
    ip.filter(|ip| !ip.is_unspecified()).ok_or_else(|| format!("its own address is {text:?}: it may not be connected"))
}

/// Why a router refused: the code and the words of its fault.
fn refusal(answer: &str) -> Option<(u16, String)> {
    let code = text_of(answer, "errorCode")?.parse().ok()?;
    let words: String = text_of(answer, "errorDescription").unwrap_or_default().chars().take(200).collect();
    let known = if code == 718 { " (the port is given to another machine)" } else { "" };
    Some((code, format!("{words}{known}")))
}

fn text_of(answer: &str, name: &str) -> Option<String> {
    let document = Document::parse(answer).ok()?;
    let node = document.descendants().find(|node| node.has_tag_name_of(name))?;
    node.text().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_asked_at_its_router_and_nowhere_else() {
        let base = "http://192.168.1.1:5000/rootDesc.xml";
        assert_eq!(control_url(base, "/ctl/IPConn").as_deref(), Some("http://192.168.1.1:5000/ctl/IPConn"));
        assert_eq!(control_url(base, "ctl").as_deref(), Some("http://192.168.1.1:5000/ctl"));
        let own = "http://192.168.1.1:49152/ctl";
        assert_eq!(control_url(base, own).as_deref(), Some(own));
        for other in ["http://10.0.0.1/ctl", "http://192.168.1.1@10.0.0.1/ctl", "not a uri \n"] {
            assert_eq!(control_url(base, other), None, "{other}");
        }
    }

    #[test]
    fn an_address_or_a_reason_is_read_from_an_answer() {
        let answer = |inner: &str| format!(r#"<s:Envelope xmlns:s="x"><s:Body>{inner}</s:Body></s:Envelope>"#);
        let ip = |text: &str| external_ip(&answer(&format!("<NewExternalIPAddress>{text}</NewExternalIPAddress>")));
        assert_eq!(ip("203.0.113.7"), Ok(Ipv4Addr::new(203, 0, 113, 7)));
        assert!(ip("").is_err() && ip("0.0.0.0").unwrap_err().contains("may not be connected"));
        assert!(external_ip("<a/>").is_err() && external_ip("noise").is_err());
        let fault = "<UPnPError><errorCode>718</errorCode><errorDescription>ConflictInMappingEntry</errorDescription></UPnPError>";
        let (code, words) = refusal(&answer(fault)).unwrap();
        assert!(code == 718 && words.starts_with("ConflictInMappingEntry") && words.contains("another machine"));
        assert_eq!(refusal("noise"), None);
    }

    #[test]
    fn the_question_is_one_document_that_names_the_port_once_outside_and_once_inside() {
        let open = Action::Open { port: Port { is_tcp: false, number: 7400 }, to: Ipv4Addr::new(192, 168, 1, 2) };
        let body = open.body("urn:schemas-upnp-org:service:WANIPConnection:1", 3_600);
        let text = |name| text_of(&body, name);
        assert_eq!(text("NewExternalPort").as_deref(), Some("7400"));
        assert_eq!(text("NewInternalPort").as_deref(), Some("7400"));
        assert_eq!(text("NewInternalClient").as_deref(), Some("192.168.1.2"));
        assert_eq!(text("NewProtocol").as_deref(), Some("UDP"));
        assert_eq!(text("NewLeaseDuration").as_deref(), Some("3600"));
    }
}
