//! `--all-homes`: a command for every home of the mesh in turn. Those that do not answer are named, each with the reason.

use clap::Args;
use magpie_core::ids::{LedgerId, LedgerTag, PeerId, TaskId};
use magpie_core::limits;
use serde::Serialize;

use super::args::Context;
use super::connection::{NodeLink, unexpected};
use super::exit::{CommandError, Exit};
use crate::messages::node::{NodeReply, NodeRequest};
use crate::messages::{Answer, Body};

#[derive(Debug, Clone, Copy, Args)]
pub struct AllHomesArg {
    /// Every home of the mesh that this node has heard of, one after the other; those that do not answer are named
    #[arg(long)]
    all_homes: bool,
}

impl AllHomesArg {
    /// Whom it is about: this node's own home, or all, by the ends of their ids.
    ///
    /// # Errors
    /// If the node does not say.
    pub async fn scope(self, context: &Context) -> Result<Scope, CommandError> {
        if !self.all_homes {
            return Ok(Scope::Own);
        }
        let Answer::Node(NodeReply::Homes(heard)) = context.link.ask(Body::Node(NodeRequest::Homes)).await? else {
            return Err(unexpected());
        };
        let mut homes: Vec<Home> =
            heard.into_iter().map(|view| Home { ledger: view.ledger, peer_id: view.peer_id }).collect();
        homes.sort_unstable_by_key(|home| home.ledger.tag());
        Ok(Scope::All(homes))
    }
}

/// A ledger, and the node that serves it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Home {
    ledger: LedgerId,
    peer_id: PeerId,
}

#[derive(Debug)]
pub enum Scope {
    Own,
    All(Vec<Home>),
}

/// A home that did not do what it was asked.
#[derive(Debug, Serialize)]
pub struct UnreachableHome {
    #[serde(flatten)]
    home: Home,
    error: String,
    #[serde(skip)]
    exit: Exit,
}

impl UnreachableHome {
    fn new(home: Home, error: &CommandError) -> Self {
        Self { home, error: error.to_string(), exit: error.exit }
    }
}

/// A part of a listing.
#[derive(Debug)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// The last of them, if there may be more.
    pub next_cursor: Option<TaskId>,
    pub unreachable_homes: Vec<UnreachableHome>,
}

/// The same for programs.
#[derive(Debug, Serialize)]
pub struct ListedDocument<'a, D> {
    items: Vec<D>,
    next_cursor: Option<TaskId>,
    unreachable_homes: &'a [UnreachableHome],
}

impl<T> Listed<T> {
    pub fn document<'a, D>(&'a self, of: impl FnMut(&'a T) -> D) -> ListedDocument<'a, D> {
        let items = self.items.iter().map(of).collect();
        ListedDocument { items, next_cursor: self.next_cursor, unreachable_homes: &self.unreachable_homes }
    }

    /// What people read below the rows.
    pub fn rest(&self) -> String {
        let more = self.next_cursor.map(|cursor| format!("more: --cursor {cursor}\n"));
        more.unwrap_or_default() + &incomplete(&self.unreachable_homes)
    }
}

/// Up to `limit` items of a home, those after the cursor, and the cursor for more.
pub type Page<T> = (Vec<T>, Option<TaskId>);

/// Up to `limit` items behind `cursor`, home after home. `page` asks one for at most so many.
///
/// # Errors
/// If this node's own home cannot be asked, and it is the only one.
pub async fn list<T>(
    link: &NodeLink,
    scope: &Scope,
    cursor: Option<TaskId>,
    limit: usize,
    id_of: impl Fn(&T) -> TaskId,
    page: impl AsyncFn(Option<LedgerTag>, Option<TaskId>, usize) -> Result<Page<T>, CommandError>,
) -> Result<Listed<T>, CommandError> {
    let Scope::All(homes) = scope else {
        let (items, next_cursor) = pages(link.home(), cursor, limit, &page).await?;
        return Ok(Listed { items, next_cursor, unreachable_homes: Vec::new() });
    };
    let mut listed = Listed { items: Vec::new(), next_cursor: None, unreachable_homes: Vec::new() };
    for home in homes {
        let tag = home.ledger.tag();
        if cursor.is_some_and(|cursor| tag < cursor.ledger) {
            continue;
        }
        // Another node says how many it gives.
        let room = limit.saturating_sub(listed.items.len());
        if room == 0 {
            listed.next_cursor = listed.items.last().map(&id_of);
            break;
        }
        match pages(Some(tag), cursor.filter(|cursor| cursor.ledger == tag), room, &page).await {
            Ok((items, next_cursor)) => {
                listed.items.extend(items);
                listed.next_cursor = next_cursor;
            }
            Err(error) => listed.unreachable_homes.push(UnreachableHome::new(*home, &error)),
        }
    }
    Ok(listed)
}

/// A home says no more at a time than fits into a message.
async fn pages<T>(
    home: Option<LedgerTag>,
    mut cursor: Option<TaskId>,
    limit: usize,
    page: impl AsyncFn(Option<LedgerTag>, Option<TaskId>, usize) -> Result<Page<T>, CommandError>,
) -> Result<Page<T>, CommandError> {
    let mut listed = Vec::new();
    loop {
        let (items, next) = page(home, cursor, (limit - listed.len()).min(limits::LIST_LEN_MAX)).await?;
        listed.extend(items);
        cursor = next;
        if cursor.is_none() || listed.len() >= limit {
            return Ok((listed, cursor));
        }
    }
}

/// What the homes answered that were asked about their queues.
#[derive(Debug)]
pub struct OfHomes<T> {
    answered: Vec<(Home, T)>,
    unreachable_homes: Vec<UnreachableHome>,
}

/// The same for programs.
#[derive(Serialize)]
struct OfHomesDocument<'a, D> {
    homes: Vec<OfHomeDocument<'a, D>>,
    unreachable_homes: &'a [UnreachableHome],
}

#[derive(Serialize)]
struct OfHomeDocument<'a, D> {
    #[serde(flatten)]
    home: &'a Home,
    queue: D,
}

impl<T> OfHomes<T> {
    /// Asks each of `homes` by `ask`.
    pub async fn ask(homes: &[Home], ask: impl AsyncFn(LedgerTag) -> Result<T, CommandError>) -> Self {
        let (mut answered, mut unreachable_homes) = (Vec::new(), Vec::new());
        for home in homes {
            match ask(home.ledger.tag()).await {
                Ok(answer) => answered.push((*home, answer)),
                Err(error) => unreachable_homes.push(UnreachableHome::new(*home, &error)),
            }
        }
        Self { answered, unreachable_homes }
    }

    pub fn answers(&self) -> impl Iterator<Item = &T> {
        self.answered.iter().map(|(_, answer)| answer)
    }

    /// Prints them: a document of each for programs, a text of each below its home for people.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn print<'a, D: Serialize>(
        &'a self,
        context: &Context,
        document: impl Fn(&'a T) -> D,
        text: impl Fn(&T) -> String,
    ) -> Result<(), CommandError> {
        let one = |(home, answer): &'a (Home, T)| OfHomeDocument { home, queue: document(answer) };
        let unreachable_homes = self.unreachable_homes.as_slice();
        let all = OfHomesDocument { homes: self.answered.iter().map(one).collect(), unreachable_homes };
        let below = |(home, answer): &(Home, T)| format!("{} at {}:\n{}\n", home.ledger, home.peer_id, text(answer));
        let texts = || self.answered.iter().map(below).collect::<String>() + &incomplete(unreachable_homes);
        context.document(&all, texts)
    }

    /// The outcome of a command that changes something: why it was not done everywhere, if it was not.
    pub fn exit(&self) -> Exit {
        self.unreachable_homes.first().map_or(Exit::Ok, |home| home.exit)
    }
}

fn incomplete(homes: &[UnreachableHome]) -> String {
    let line = |of: &UnreachableHome| format!("incomplete: {} at {}: {}\n", of.home.ledger, of.home.peer_id, of.error);
    homes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;

    const PAGE: usize = 2;

    fn home(n: u8) -> Home {
        Home { ledger: LedgerId([n; 16]), peer_id: PeerId([n; 32]) }
    }

    /// Homes in the order in which they are listed.
    fn homes() -> Vec<Home> {
        let mut homes: Vec<Home> = [1, 2, 3].map(home).into();
        homes.sort_unstable_by_key(|home| home.ledger.tag());
        homes
    }

    /// Each home has four tasks, and says two at a time; the one in the middle is away if `is_away`.
    async fn listed(cursor: Option<TaskId>, limit: usize, is_away: bool) -> (Listed<TaskId>, Vec<LedgerTag>) {
        let (link, homes) = (NodeLink::new(PathBuf::from("/nowhere")), homes());
        let away = homes[1].ledger.tag();
        let asked = RefCell::new(Vec::new());
        let page = async |home: Option<LedgerTag>, cursor: Option<TaskId>, limit: usize| {
            let ledger = home.expect("each is named");
            asked.borrow_mut().push(ledger);
            if is_away && ledger == away {
                return Err(CommandError::new(Exit::Unreachable, "it is away"));
            }
            assert!(cursor.is_none_or(|cursor| cursor.ledger == ledger), "a home knows its own cursors");
            let after = cursor.map_or(0, |cursor| cursor.ulid);
            let items: Vec<_> = (after + 1..=4).map(|ulid| TaskId { ulid, ledger }).take(limit.min(PAGE)).collect();
            let next = items.last().copied().filter(|last| last.ulid < 4);
            Ok((items, next))
        };
        let listed = list(&link, &Scope::All(homes), cursor, limit, |id| *id, page).await.unwrap();
        (listed, asked.into_inner())
    }

    #[tokio::test]
    async fn the_homes_are_listed_one_after_the_other_and_a_cursor_goes_on_where_a_page_ended() {
        let (all, _) = listed(None, 100, false).await;
        assert_eq!((all.items.len(), all.next_cursor), (12, None));
        let (mut parts, mut cursor) = (Vec::new(), None);
        for limit in [1, 3, 2, 5, 1] {
            let (part, _) = listed(cursor, limit, false).await;
            assert_eq!(part.items.len(), limit);
            cursor = part.next_cursor;
            parts.extend(part.items);
        }
        assert_eq!((parts, cursor), (all.items, None));
    }

    #[tokio::test]
    async fn a_page_that_ends_with_a_home_goes_on_at_the_next_one() {
        let (first, asked) = listed(None, 4, false).await;
        assert_eq!(first.next_cursor, first.items.last().copied());
        assert_eq!(asked, [homes()[0].ledger.tag(); 2], "the others are not asked yet");
        let (second, _) = listed(first.next_cursor, 4, false).await;
        assert!(second.items.iter().all(|id| id.ledger == homes()[1].ledger.tag()), "{second:?}");
    }

    #[tokio::test]
    async fn a_home_that_is_away_is_named_and_the_others_are_listed() {
        let (all, _) = listed(None, 100, true).await;
        assert_eq!(all.items.len(), 8);
        let [away] = all.unreachable_homes.as_slice() else { panic!("{:?}", all.unreachable_homes) };
        assert_eq!((away.home.ledger, away.error.as_str()), (homes()[1].ledger, "it is away"));
        assert!(all.rest().starts_with("incomplete: "), "{}", all.rest());
    }
}
