use magpie_core::access::{Revocations, SignedRevocation, Ticket};
use magpie_core::ids::TicketId;
use proptest::prelude::*;

use super::*;
use crate::peer_rules::{PeerRule, PeerRules};
use crate::rotation::KeyRotation;

const ALICE: PeerId = PeerId([1; 32]);
const BOB: PeerId = PeerId([2; 32]);
const EVE: PeerId = PeerId([3; 32]);
const NOW: Wall = Wall(1_764_000_000_000);
const HOUR_MS: u64 = 3_600_000;

fn cluster_key(seed: u8) -> ClusterKey {
    ClusterKey::from_bytes([seed; 32])
}

fn with(local: PeerId, rules: Admission) -> Admitter {
    Admitter::new(local, 7, rules)
}

fn with_key(local: PeerId, seed: u8) -> Admitter {
    with(local, Admission { cluster_key: Some(cluster_key(seed)), ..Admission::default() })
}

fn with_list(local: PeerId, allow: &[PeerId]) -> Admitter {
    with(local, Admission { allow: allow.iter().copied().collect(), ..Admission::default() })
}

fn ticket(seed: u8, peer: PeerId, role: Role) -> SignedTicket {
    Ticket::issue(cluster_key(seed).issuing_key(), TicketId([7; 16]), peer, role, NOW, HOUR_MS).unwrap()
}

/// Knows the public half alone, and has a ticket.
fn with_ticket(local: PeerId, seed: u8, ticket: SignedTicket) -> Admitter {
    let clusters = [cluster_key(seed).issuing_key().cluster()].into();
    with(local, Admission { clusters, ticket: Some(ticket), ..Admission::default() })
}

/// What `verifier` says of what `prover` shows to it.
fn judged(verifier: &Admitter, prover: &Admitter) -> Result<Passport, AdmitError> {
    verifier.verify(prover.local, &prover.credentials_for(verifier.local, NOW), NOW)
}

#[test]
fn holders_of_one_key_admit_each_other() {
    let (alice, bob) = (with_key(ALICE, 9), with_key(BOB, 9));
    let member = Passport { role: Role::Peer, ground: Ground::ClusterKey(cluster_key(9).issuing_key().cluster()) };
    assert_eq!(judged(&bob, &alice), Ok(member));
    assert_eq!(judged(&alice, &bob), Ok(member));
}

#[test]
fn a_proof_is_useless_to_anyone_else_and_towards_anyone_else() {
    let (alice, bob, eve) = (with_key(ALICE, 9), with_key(BOB, 9), with_key(EVE, 9));
    let recorded = alice.credentials_for(BOB, NOW);
    assert_eq!(bob.verify(EVE, &recorded, NOW), Err(AdmitError::WrongProof), "another prover");
    assert_eq!(eve.verify(ALICE, &recorded, NOW), Err(AdmitError::WrongProof), "another verifier");
    assert_eq!(alice.verify(BOB, &recorded, NOW), Err(AdmitError::WrongProof), "sent back");
}

#[test]
fn the_public_half_admits_holders_of_the_key_and_of_tickets() {
    let (holder, guest) = (with_key(ALICE, 9), with_ticket(BOB, 9, ticket(9, BOB, Role::Peer)));
    let third = with_ticket(EVE, 9, ticket(9, EVE, Role::Peer));
    for (verifier, prover) in [(&guest, &holder), (&holder, &guest), (&guest, &third), (&third, &guest)] {
        assert_eq!(judged(verifier, prover).map(|passport| passport.role), Ok(Role::Peer));
    }
    let recorded = holder.credentials_for(BOB, NOW);
    assert_eq!(guest.verify(EVE, &recorded, NOW), Err(AdmitError::WrongProof), "another prover");
    assert_eq!(third.verify(ALICE, &recorded, NOW), Err(AdmitError::WrongProof), "another verifier");
}

#[test]
fn a_ticket_admits_its_peer_alone_as_what_it_says_and_until_it_expires() {
    let holder = with_key(ALICE, 9);
    for role in Role::ALL {
        assert_eq!(judged(&holder, &with_ticket(BOB, 9, ticket(9, BOB, role))).unwrap().role, role);
    }
    let wrong = TicketError::WrongPeer { named: BOB, presented: EVE };
    assert_eq!(judged(&holder, &with_ticket(EVE, 9, ticket(9, BOB, Role::Peer))), Err(wrong.into()));
    let issuer = cluster_key(8).issuing_key().cluster();
    let foreign = judged(&holder, &with_ticket(BOB, 8, ticket(8, BOB, Role::Peer)));
    assert_eq!(foreign, Err(TicketError::ForeignIssuer { issuer }.into()));

    let bob = with_ticket(BOB, 9, ticket(9, BOB, Role::Peer));
    let (credentials, expires) = (bob.credentials_for(ALICE, NOW), Wall(NOW.0 + HOUR_MS));
    let passport = holder.verify(BOB, &credentials, NOW).unwrap();
    assert_eq!(holder.holds(BOB, &passport, Wall(expires.0 - 1)), Ok(()));
    let expired = AdmitError::Ticket(TicketError::Expired { expires });
    assert_eq!(holder.holds(BOB, &passport, expires), Err(expired.clone()));
    assert_eq!(holder.verify(BOB, &credentials, expires), Err(expired));
}

#[test]
fn what_is_no_ticket_spoils_no_proof() {
    let (alice, bob) = (with_key(ALICE, 9), with_key(BOB, 9));
    let newer = |ticket: &str| Credentials { ticket: Some(ticket.to_owned()), ..alice.credentials_for(BOB, NOW) };
    assert!(bob.verify(ALICE, &newer("magpie-ticket-2-abc"), NOW).is_ok());
    assert!(with_key(BOB, 8).verify(ALICE, &newer("nonsense"), NOW).is_err());
}

#[test]
fn the_allow_list_needs_no_proof_and_the_default_admits_nobody() {
    let stranger = with_list(EVE, &[]);
    assert!(judged(&with_list(ALICE, &[BOB]), &with_list(BOB, &[])).is_ok());
    assert_eq!(judged(&with_list(ALICE, &[BOB]), &stranger), Err(AdmitError::Closed));
    assert_eq!(judged(&with_list(ALICE, &[]), &with_key(BOB, 9)), Err(AdmitError::Closed));
    assert_eq!(judged(&with_key(ALICE, 9), &stranger), Err(AdmitError::NoProof));
}

#[test]
fn what_is_revoked_admits_nobody_any_more() {
    let (mut alice, bob) = (with_key(ALICE, 9), with_key(BOB, 9));
    let eve = with_ticket(EVE, 9, ticket(9, EVE, Role::Operator));
    let (by_key, by_ticket) = (judged(&alice, &bob).unwrap(), judged(&alice, &eve).unwrap());
    let (key, mut revoked) = (cluster_key(9), Revocations::default());
    for what in [Revoked::Peer(BOB), Revoked::Ticket(TicketId([7; 16]))] {
        let signed = SignedRevocation::issue(key.issuing_key(), what, NOW);
        revoked.learn(signed, &[key.issuing_key().cluster()]).unwrap();
    }
    alice.set_rules(Admission { cluster_key: Some(key), allow: [BOB].into(), revoked, ..Admission::default() });
    assert_eq!(judged(&alice, &bob), Err(AdmitError::Revoked(Revoked::Peer(BOB))), "though it is on the list");
    assert_eq!(alice.holds(BOB, &by_key, NOW), Err(AdmitError::Revoked(Revoked::Peer(BOB))));
    let of_ticket = AdmitError::Revoked(Revoked::Ticket(TicketId([7; 16])));
    assert_eq!(judged(&alice, &eve), Err(of_ticket.clone()));
    assert_eq!(alice.holds(EVE, &by_ticket, NOW), Err(of_ticket));
}

#[test]
fn this_nodes_own_rules_go_before_the_key_and_the_list() {
    let rules = PeerRules::default();
    let admission = Admission {
        cluster_key: Some(cluster_key(9)),
        allow: [EVE].into(),
        rules: rules.clone(),
        ..Admission::default()
    };
    let bob = with(BOB, admission);
    let (holder, stranger) = (with_key(ALICE, 9), with_list(ALICE, &[]));
    assert_eq!(judged(&bob, &stranger), Err(AdmitError::NoProof));
    rules.set(ALICE, PeerRule::Allow).unwrap();
    let passport = judged(&bob, &stranger).unwrap();
    assert_eq!(bob.holds(ALICE, &passport, NOW), Ok(()));
    rules.set(ALICE, PeerRule::Deny).unwrap();
    rules.set(EVE, PeerRule::Deny).unwrap();
    assert_eq!(judged(&bob, &holder), Err(AdmitError::ShutOut(ShutOut::Denied)));
    assert_eq!(judged(&bob, &with_list(EVE, &[])), Err(AdmitError::ShutOut(ShutOut::Denied)));
    assert_eq!(
        bob.holds(ALICE, &passport, NOW),
        Err(AdmitError::ShutOut(ShutOut::Denied)),
        "whoever is in already too"
    );
}

#[test]
fn under_other_rules_only_those_stay_whom_they_admit() {
    let (mut alice, bob) = (with_key(ALICE, 9), with_key(BOB, 9));
    let by_key = judged(&alice, &bob).unwrap();
    let by_ticket = judged(&alice, &with_ticket(EVE, 9, ticket(9, EVE, Role::Agent))).unwrap();
    alice.set_rules(Admission { cluster_key: Some(cluster_key(8)), allow: [BOB].into(), ..Admission::default() });
    assert_eq!(alice.holds(BOB, &by_key, NOW), Ok(()), "it is on the list now");
    assert!(alice.holds(EVE, &by_ticket, NOW).is_err());
    alice.set_rules(Admission { cluster_key: Some(cluster_key(8)), ..Admission::default() });
    assert_eq!(alice.holds(BOB, &by_key, NOW), Err(AdmitError::WrongProof));
    assert!(alice.holds(BOB, &Passport { ground: Ground::AllowList, ..by_key }, NOW).is_err());
}

#[test]
fn neighbouring_versions_speak_and_others_do_not() {
    let (alice, bob) = (with_key(ALICE, 9), with_key(BOB, 9));
    for (version, admitted) in [(MAILBOX_VERSION - 1, true), (MAILBOX_VERSION + 1, true), (MAILBOX_VERSION + 2, false)]
    {
        let presented = Credentials { version, ..alice.credentials_for(BOB, NOW) };
        assert_eq!(bob.verify(ALICE, &presented, NOW).is_ok(), admitted, "version {version}");
    }
}

/// As the version before wrote and read them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CredentialsBefore {
    version: u16,
    boot: u64,
    proof: Vec<u8>,
}

#[test]
fn a_node_of_the_version_before_and_this_one_read_each_other() {
    let presented = with_key(ALICE, 9).credentials_for(BOB, NOW);
    let bytes = rmp_serde::to_vec_named(&presented).unwrap();
    let read: CredentialsBefore = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(read, CredentialsBefore { version: 1, boot: 7, proof: presented.proof.clone() });
    let golden = data_encoding::HEXLOWER.decode(b"83a776657273696f6e01a4626f6f7407a570726f6f6693010203").unwrap();
    assert_eq!(
        rmp_serde::to_vec_named(&CredentialsBefore { version: 1, boot: 7, proof: vec![1, 2, 3] }).unwrap(),
        golden
    );
    let read: Credentials = rmp_serde::from_slice(&golden).unwrap();
    let (signature, successor) = (Vec::new(), Vec::new());
    let expected = Credentials { version: 1, boot: 7, proof: vec![1, 2, 3], signature, ticket: None, successor };
    assert_eq!(read, expected);
    assert_eq!(rmp_serde::to_vec_named(&expected).unwrap(), golden, "what has nothing new to say says it as before");
}

proptest! {
    #[test]
    fn no_guess_is_a_proof(
        seed: u8,
        proof in prop::collection::vec(any::<u8>(), 0..80),
        signature in prop::collection::vec(any::<u8>(), 60..70),
        ticket in prop::option::of(".{0,80}"),
        successor in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        let presented = Credentials { version: MAILBOX_VERSION, boot: 0, proof, signature, ticket, successor };
        prop_assert!(with_key(ALICE, seed).verify(EVE, &presented, NOW).is_err());
    }

    #[test]
    fn greetings_survive_the_wire(
        version: u16,
        boot: u64,
        proof in prop::collection::vec(any::<u8>(), 0..40),
        signature in prop::collection::vec(any::<u8>(), 0..70),
        ticket in prop::option::of(".{0,80}"),
        successor in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        let hello = Greeting::Hello(Credentials { version, boot, proof, signature, ticket, successor });
        let bytes = rmp_serde::to_vec_named(&hello).unwrap();
        prop_assert_eq!(rmp_serde::from_slice::<Greeting>(&bytes).unwrap(), hello);
    }
}

/// Holds key `to`, which took the place of key `from`; that one admits until `until`.
fn rotated(local: PeerId, from: u8, to: u8, until: Wall) -> Admitter {
    let rotation = KeyRotation::next(None, &cluster_key(from), cluster_key(to), until).unwrap();
    with(local, Admission { cluster_key: Some(cluster_key(to)), rotation: Some(rotation), ..Admission::default() })
}

fn ground(verifier: &Admitter, prover: &Admitter, now: Wall) -> Result<Ground, AdmitError> {
    let shown = prover.credentials_for(verifier.local, now);
    verifier.verify(prover.local, &shown, now).map(|passport| passport.ground)
}

#[test]
fn while_a_key_is_replaced_node_by_node_all_admit_each_other() {
    let until = Wall(NOW.0 + HOUR_MS);
    let by = |seed| Ok(Ground::ClusterKey(cluster_key(seed).issuing_key().cluster()));
    let (old, new) = (with_key(ALICE, 1), rotated(BOB, 1, 2, until));
    assert_eq!((ground(&old, &new, NOW), ground(&new, &old, NOW)), (by(1), by(1)));
    let other = rotated(EVE, 1, 2, until);
    assert_eq!((ground(&other, &new, NOW), ground(&new, &other, NOW)), (by(2), by(2)), "by the newest that both know");
    // One whose overlap is over, and one that was set up with the new key alone.
    for fresh in [rotated(ALICE, 1, 2, NOW), with_key(ALICE, 2)] {
        assert_eq!((ground(&fresh, &new, NOW), ground(&new, &fresh, NOW)), (by(2), by(2)));
    }
    // Who knows only the public half of either, and has its ticket.
    for (seed, role) in [(1, Role::Peer), (2, Role::Peer)] {
        let guest = with_ticket(EVE, seed, ticket(seed, EVE, role));
        assert!(judged(&new, &guest).is_ok() && judged(&guest, &new).is_ok(), "key {seed}");
    }
}

#[test]
fn after_the_overlap_the_former_key_opens_nothing() {
    let until = Wall(NOW.0 + HOUR_MS);
    let (old, new) = (with_key(ALICE, 1), rotated(BOB, 1, 2, until));
    let passport = new.verify(ALICE, &old.credentials_for(BOB, NOW), NOW).unwrap();
    let before = Wall(until.0 - 1);
    assert!(new.holds(ALICE, &passport, before).is_ok());
    assert!(new.holds(ALICE, &passport, until).is_err(), "a connection that stands ends");
    assert_eq!(new.verify(ALICE, &old.credentials_for(BOB, until), until), Err(AdmitError::WrongProof));
    let ticketed = with_ticket(EVE, 1, ticket(1, EVE, Role::Peer));
    assert!(ground(&new, &ticketed, before).is_ok() && ground(&new, &ticketed, until).is_err());
    let kept = new.credentials_for(ALICE, until);
    assert!(kept.successor.is_empty() && old.verify(BOB, &kept, until).is_err());
    let stranger = rotated(EVE, 3, 4, until);
    assert!(ground(&new, &stranger, NOW).is_err() && ground(&stranger, &new, NOW).is_err());
}
