//! The bounds of this crate beside those of [`magpie_core::limits`], with the unit in the name.

use std::time::Duration;

pub(crate) use magpie_core::limits::*;

/// A hundred years. (Greater durations make libp2p search for one that a clock can hold, at every turn.)
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A connected peer that is not admitted within this is disconnected: it is gone within five seconds.
pub(crate) const ADMISSION_MS: u64 = 4_500;
/// A connection that is not encrypted and multiplexed within this is dropped.
pub(crate) const CONNECTION_SETUP_MS: u64 = 5_000;
/// Connections under way, each direction.
pub(crate) const CONNECTIONS_PENDING_MAX: usize = 256;
/// Connections of all peers: two directions of each member, while both dial at once.
pub(crate) const CONNECTIONS_MAX: usize = 2 * PEERS_MAX;
/// Connections of peers that are not admitted (yet).
pub(crate) const STRANGERS_MAX: usize = 256;
/// Guests: peers that a ticket lets ask, without being members. One that asks nothing for so long is sent away.
pub(crate) const GUESTS_MAX: usize = 256;
pub(crate) const GUEST_SILENT_MS: u64 = 10 * 60_000;
/// Connections of one peer: both dial at once, over TCP and over QUIC.
pub(crate) const PEER_CONNECTIONS_MAX: usize = 4;
/// Substreams of request-response on one connection: both directions, and a quarter for those that only one side has
/// seen end. Past this the receiver drops requests, past 512 yamux closes the connection.
pub(crate) const MAILBOX_STREAMS_MAX: usize = 2 * PEER_REQUESTS_MAX + PEER_REQUESTS_MAX / 2;
/// Substreams of the admission protocol on one connection.
pub(crate) const ADMISSION_STREAMS_MAX: usize = 4;
/// Substreams on which members tell each other of members, on one connection, and how long one may take.
pub(crate) const MEMBERS_STREAMS_MAX: usize = 4;
pub(crate) const MEMBERS_TIMEOUT_MS: u64 = 5_000;
/// What a member tells of the others at a time.
pub(crate) const MEMBERS_BYTES_MAX: usize = 256 * 1024;
/// One of the members is asked this often, doubling while no answer names anybody new; one that asks more often than the
/// last is not answered.
pub(crate) const MEMBERS_ASK_FIRST_MS: u64 = 1_000;
pub(crate) const MEMBERS_ASK_MAX_MS: u64 = 4_000;
pub(crate) const MEMBERS_ANSWER_EVERY_MS: u64 = 250;
/// Who was just admitted is asked so long after the last, for each member that there is.
pub(crate) const MEMBERS_ASK_EACH_MS: u64 = 10;
/// What a member told is told again after this, although nothing changed.
pub(crate) const MEMBERS_TELL_EVERY_MS: u64 = SUGGESTION_TTL_MS / 3;
/// Substreams on which members ask whether they can be reached, on one connection; what one carries, and how long it may
/// take: as long as a dial.
pub(crate) const REACH_STREAMS_MAX: usize = 4;
pub(crate) const REACH_BYTES_MAX: usize = 2 * 1024;
pub(crate) const REACH_TIMEOUT_MS: u64 = CONNECTION_SETUP_MS + 5_000;
/// Addresses of this node that a person names, and all that lead beyond its site.
pub(crate) const EXTERNAL_MAX: usize = 8;
pub(crate) const REACH_CLAIMS_MAX: usize = 16;
/// A member is asked about one address at most this often; one that asks more often than the second is not served.
pub(crate) const REACH_ASK_EVERY_MS: u64 = 1_000;
pub(crate) const REACH_ANSWER_EVERY_MS: u64 = 250;
/// Members that are dialled back at the same time.
pub(crate) const DIAL_BACKS_MAX: usize = 16;
/// An address that was reached is told for so long, unless so many tries in a row fail, and asked about again after the
/// second; another after the third, doubling.
pub(crate) const REACH_HOLDS_MS: u64 = SUGGESTION_TTL_MS;
pub(crate) const REACH_FAILURES_MAX: u32 = 2;
pub(crate) const REACH_AGAIN_MS: u64 = SUGGESTION_TTL_MS / 3;
pub(crate) const REACH_RETRY_MS: u64 = 5_000;
/// The text of an address that others told.
pub(crate) const ADDRESS_BYTES_MAX: usize = 256;
/// A frame of a lane: what is longer takes request-response, or goes in parts.
pub(crate) const LANE_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Frames are written to a lane in pieces of about this.
pub(crate) const LANE_BUFFER_BYTES: usize = 64 * 1024;
/// What is read of a lane at once, if the frame that it begins with is no longer. It is held while the lane is quiet too, and a
/// node has two lanes with every member.
pub(crate) const LANE_READ_BYTES: usize = 8 * 1024;
/// Requests under way on one lane.
pub(crate) const LANE_REQUESTS_MAX: usize = 4 * PEER_REQUESTS_MAX;
/// Lanes of one member that are served: the one in use, and one that the member has not given up yet.
pub(crate) const LANES_SERVED_MAX: usize = 2;
/// How long opening a lane may take, and one write to it.
pub(crate) const LANE_OPEN_MS: u64 = 5_000;
pub(crate) const LANE_WRITE_MS: u64 = 10_000;
/// How long the rest of a frame may take on a lane.
pub(crate) const LANE_READ_MS: u64 = 10_000;
/// A broken lane is opened again after this.
pub(crate) const LANE_RETRY_MS: u64 = 1_000;
/// Requests on a lane that nobody waits for any more are forgotten this often.
pub(crate) const LANE_EXPIRY_EVERY_MS: u64 = 1_000;
/// Requests from peers on substreams that are read or unanswered, in bytes: of all, and of one.
pub(crate) const INBOUND_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;
pub(crate) const PEER_INBOUND_BYTES_MAX: usize = INBOUND_BYTES_MAX / 4;
/// The same of those on lanes.
pub(crate) const LANES_BYTES_MAX: usize = 32 * 1024 * 1024;
pub(crate) const PEER_LANES_BYTES_MAX: usize = LANES_BYTES_MAX / 8;
/// Requests of one peer on substreams that are read or unanswered: with a quarter for those that only it has seen end.
pub(crate) const PEER_PLACES_MAX: usize = PEER_REQUESTS_MAX + PEER_REQUESTS_MAX / 4;
/// Substreams that one peer opens a second, a quarter of them at once: one for each frame too long for its lane. Those
/// beyond wait, and beyond these are reset: an honest peer has no more under way.
pub(crate) const PEER_STREAMS_PER_S_MAX: u64 = 1_000;
pub(crate) const PEER_STREAMS_WAITING_MAX: usize = 2 * PEER_REQUESTS_MAX;
/// The same while every request has a substream of its own, to be measured.
pub(crate) const MEASURED_STREAMS_PER_S_MAX: u64 = 1_000_000;
/// Bytes that one peer sends a second, on substreams and as many on lanes: what a gigabit network carries.
pub(crate) const PEER_BYTES_PER_S_MAX: u64 = 128 * 1024 * 1024;
pub(crate) const PEER_BYTES_BURST: u64 = 32 * 1024 * 1024;
/// Messages that one peer sends on lanes; most carry many tasks.
pub(crate) const LANE_MESSAGES_PER_S_MAX: u64 = 10_000;
pub(crate) const LANE_MESSAGES_BURST: u64 = 10_000;
/// Substreams of one connection that yamux holds, of all protocols and both directions; past this it closes the connection.
pub(crate) const CONNECTION_STREAMS_MAX: usize = 256;
/// Commands that wait for the swarm loop.
pub(crate) const COMMANDS_LEN_MAX: usize = 1_024;
/// Events other than requests that wait for a full inbox, before the swarm is no longer polled.
pub(crate) const EVENTS_WAITING_MAX: usize = 1_024;
/// One part in so many of the inbox is for what is waited for: notices that find no more room are dropped.
pub(crate) const NOTICES_LEAVE: usize = 4;
/// Markers that have not come out yet.
pub(crate) const MARKERS_MAX: usize = 1_024;
/// Suggestions of the discovery methods that wait for the swarm loop.
pub(crate) const SUGGESTIONS_LEN_MAX: usize = 256;
/// The swarm loop looks at its deadlines this often; when nothing has moved for the third, as often as the second.
pub(crate) const TICK_MS: u64 = 100;
pub(crate) const QUIET_TICK_MS: u64 = 500;
pub(crate) const QUIET_AFTER_MS: u64 = 2_000;
/// Who was admitted by what ends is looked at this often: by then it is over for them, too.
pub(crate) const EXPIRY_EVERY_MS: u64 = 1_000;
/// Connections to one member beside another are closed when the last of them has stood for so long.
pub(crate) const SPARE_AFTER_MS: u64 = 5_000;
/// What is sent meanwhile waits until they are closed, and for so long at most.
pub(crate) const PARTING_MS: u64 = 1_000;

/// Each connection is pinged this often, and closed when the answer takes longer. What a node does for that grows with the
/// mesh, and who is there is told by heartbeats.
pub(crate) const PING_EVERY_MS: u64 = 15_000;
pub(crate) const PING_TIMEOUT_MS: u64 = 10_000;

/// Addresses kept of one peer.
pub(crate) const PEER_ADDRESSES_MAX: usize = 8;
/// Peers and bare addresses that are dialled or remembered.
pub(crate) const TARGETS_MAX: usize = 2 * PEERS_MAX;
/// Peers that are being met at a time, from the dial to the admission; one that does not answer counts for so long.
pub(crate) const MEETING_MAX: usize = 8;
pub(crate) const MEETING_SILENT_MS: u64 = 500;
/// Half as many where the swarm loop looks at its deadlines later than that, at most so often; and one more each time that it was
/// on time for so long.
pub(crate) const MEETING_LATE_MS: u64 = 100;
pub(crate) const MEETING_FEWER_MS: u64 = 500;
pub(crate) const MEETING_MORE_MS: u64 = 1_000;
/// Back-off of dials: doubling from the first to the last.
pub(crate) const REDIAL_FIRST_MS: u64 = 100;
/// A member may hold leases of ours or we of it: it is dialled at least this often.
pub(crate) const REDIAL_MEMBER_MS: u64 = LEASE_TTL_MS / 4;
pub(crate) const REDIAL_MAX_MS: u64 = 30_000;
/// Back-off of a peer that did not admit us, or that we did not admit.
pub(crate) const REDIAL_REFUSED_FIRST_MS: u64 = 2_000;
pub(crate) const REDIAL_REFUSED_MAX_MS: u64 = 60_000;
/// A discovered peer that was never a member is forgotten after this.
pub(crate) const SUGGESTION_TTL_MS: u64 = 30 * 60_000;

/// The peer file is looked at this often.
pub(crate) const PEER_FILE_EVERY_MS: u64 = 1_000;
/// Names that are looked up, their length, and the addresses taken of each.
pub(crate) const DNS_NAMES_MAX: usize = 16;
pub(crate) const DNS_NAME_BYTES_MAX: usize = 253;
pub(crate) const DNS_ADDRESSES_MAX: usize = 256;
/// A name is looked up again after this, doubling while nothing changes, at last this often.
pub(crate) const DNS_FIRST_MS: u64 = 1_000;
pub(crate) const DNS_EVERY_MS: u64 = 10_000;
/// Rendezvous points that are visited.
pub(crate) const RENDEZVOUS_POINTS_MAX: usize = 8;
/// A registration holds for this long, and is made anew this often; a point is asked for others this often.
pub(crate) const RENDEZVOUS_TTL_S: u64 = SUGGESTION_TTL_MS / 1_000;
pub(crate) const RENDEZVOUS_REGISTER_EVERY_MS: u64 = SUGGESTION_TTL_MS / 3;
pub(crate) const RENDEZVOUS_ASK_EVERY_MS: u64 = 2_000;
/// A registration that was not taken is tried again after this.
pub(crate) const RENDEZVOUS_RETRY_MS: u64 = 5_000;
/// Members that relay for this node; and how soon one that does not is asked again.
pub(crate) const RELAYS_MAX: usize = 8;
pub(crate) const RELAY_RETRY_MS: u64 = 2_000;
/// A place at a relay is kept for so long without a word, and renewed before.
pub(crate) const RELAY_RESERVATION_S: u64 = 3_600;
/// Connections that a node relays: all, and those that one member dialled; each for so long, then it is dialled anew.
pub(crate) const RELAY_CIRCUITS_MAX: usize = 1_024;
pub(crate) const RELAY_PEER_CIRCUITS_MAX: usize = 256;
pub(crate) const RELAY_CIRCUIT_S: u64 = 7 * 86_400;
/// Where members meet by a relay alone, doing without it is tried anew after this, then after twice as long, up to so
/// long; one try, of a few attempts, is given so long.
pub(crate) const PUNCH_AGAIN_MS: u64 = 15_000;
pub(crate) const PUNCH_AGAIN_MS_MAX: u64 = 900_000;
pub(crate) const PUNCH_TAKES_MS: u64 = 60_000;
/// What this node listens on has to stand for so long before a router is asked.
pub(crate) const ROUTER_SETTLE_MS: u64 = 1_000;
/// A router is looked for so long, and one question to it may take so long; an answer is read up to here.
pub(crate) const ROUTER_SEARCH_MS: u64 = 3_000;
pub(crate) const ROUTER_CALL_MS: u64 = 5_000;
pub(crate) const ROUTER_ANSWER_BYTES_MAX: u64 = 256 * 1024;
/// It is asked to let others in for so long, and asked anew this often; one that did not is asked again after the last.
pub(crate) const ROUTER_LEASE_S: u32 = 3_600;
pub(crate) const ROUTER_RENEW_MS: u64 = 20 * 60_000;
pub(crate) const ROUTER_RETRY_MS: u64 = 60_000;
/// The Kademlia table is asked after this, doubling while no member comes, at last this often.
pub(crate) const KADEMLIA_FIRST_MS: u64 = 1_000;
pub(crate) const KADEMLIA_EVERY_MS: u64 = 60_000;
pub(crate) const KADEMLIA_QUERY_MS: u64 = 10_000;
/// A record on GitHub holds for this long, and clocks may differ by this.
pub(crate) const GITHUB_TTL_S: u64 = SUGGESTION_TTL_MS / 1_000;
pub(crate) const GITHUB_SKEW_S: u64 = 300;
/// The longest comment that is looked at.
pub(crate) const GITHUB_RECORD_BYTES_MAX: usize = 8 * 1024;
/// Pages of a hundred comments that are read, and the bytes of one (a comment has at most 64 KiB).
pub(crate) const GITHUB_PAGES_MAX: u32 = 50;
pub(crate) const GITHUB_ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a call may take.
pub(crate) const GITHUB_CALL_MS: u64 = 30_000;
/// The registry is read this often with a token, this often without one, and this soon after the first record.
pub(crate) const GITHUB_EVERY_MS: u64 = 60_000;
pub(crate) const GITHUB_ANONYMOUS_EVERY_MS: u64 = 10 * 60_000;
/// A person who asks for a look gets one this long after the last.
pub(crate) const GITHUB_ASKED_MS: u64 = 10_000;
pub(crate) const GITHUB_AGAIN_MS: u64 = 2_000;
/// After a failure, doubling: where GitHub says no limit, where it names one without an end, and the most.
pub(crate) const GITHUB_RETRY_S: u64 = 10;
pub(crate) const GITHUB_LIMITED_S: u64 = 60;
pub(crate) const GITHUB_WAIT_S_MAX: u64 = 3_600;
/// Rules about single peers.
pub(crate) const PEER_RULES_MAX: usize = 4 * PEERS_MAX;
/// What is kept of why a dial came to nothing.
pub(crate) const TROUBLE_BYTES_MAX: usize = 512;
/// A peer file or peer cache is read up to here.
pub(crate) const PEER_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The peer cache is rewritten at most this often.
pub(crate) const PEER_CACHE_EVERY_MS: u64 = 5_000;

/// How long a stopping node waits for its connections to close.
pub(crate) const SHUTDOWN_MS: u64 = 500;
/// How often a stopping node looks whether its ports are free.
pub(crate) const PORT_LOOK_EVERY_MS: u64 = 5;

const _: () = assert!(MAILBOX_STREAMS_MAX <= 200, "request-response over yamux loses whole connections beyond");
const _: () = assert!(MAILBOX_STREAMS_MAX < CONNECTION_STREAMS_MAX, "yamux loses whole connections beyond");
const _: () = assert!(PEER_INBOUND_BYTES_MAX >= FRAME_BYTES_MAX, "one frame of the greatest length must pass");
const _: () = assert!(PEER_BYTES_BURST as usize >= FRAME_BYTES_MAX, "one frame of the greatest length must pass");
const _: () = assert!(INBOUND_BYTES_MAX < u32::MAX as usize, "a semaphore counts permits in 32 bits");
