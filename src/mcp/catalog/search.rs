//! Finding tools by words, and the names nearest to one that is none.

use super::Tool;

/// What a word of a query is worth where it is found.
const IN_NAME: u32 = 8;
const IN_KEYWORDS: u32 = 6;
const IN_TITLE: u32 = 5;
const IN_CATEGORY: u32 = 2;
const IN_DESCRIPTION: u32 = 2;
/// Names are offered for a misspelt one from this likeness on: Jaro-Winkler, or half of the words.
const LIKENESS_MIN: f64 = 0.75;
/// Longer queries say no more.
const QUERY_WORDS_MAX: usize = 32;

/// Words that stand in every question.
const STOP_WORDS: [&str; 22] = [
    "a", "an", "and", "are", "do", "for", "from", "how", "i", "in", "is", "it", "me", "my", "of", "on", "one", "that",
    "the", "to", "with", "what",
];

/// What a tool says of itself to who looks for one.
pub struct Said<'a> {
    pub names: Vec<&'a str>,
    pub keywords: &'a [&'a str],
    pub title: &'a str,
    pub description: &'a str,
    pub category: &'a str,
}

/// What can be found.
pub trait Found {
    fn said(&self) -> Said<'_>;
}

impl Found for Tool {
    fn said(&self) -> Said<'_> {
        let entry = self.entry;
        Said {
            names: entry.aliases.iter().copied().chain([entry.name]).collect(),
            keywords: entry.keywords,
            title: entry.title,
            description: entry.description,
            category: entry.category.name(),
        }
    }
}

impl<T: Found> Found for &T {
    fn said(&self) -> Said<'_> {
        (**self).said()
    }
}

/// The tools that answer a query, the best first. A word that few of them have says more than one that many have.
pub fn ranked<'a, T: Found>(tools: &'a [T], query: &str) -> Vec<&'a T> {
    let wanted: Vec<String> =
        words(query).filter(|word| !STOP_WORDS.contains(&word.as_str())).take(QUERY_WORDS_MAX).collect();
    let weights: Vec<Vec<u32>> = tools.iter().map(|tool| weights(&tool.said(), &wanted)).collect();
    let rarity = |place: usize| {
        let having = weights.iter().filter(|weights| weights[place] > 0).count();
        (1.0 + tools.len() as f64 / having.max(1) as f64).ln()
    };
    let rarities: Vec<f64> = (0..wanted.len()).map(rarity).collect();
    let score =
        |weights: &[u32]| weights.iter().zip(&rarities).map(|(weight, rarity)| f64::from(*weight) * rarity).sum();
    let mut scored: Vec<(f64, &T)> = weights.iter().zip(tools).map(|(weights, tool)| (score(weights), tool)).collect();
    scored.retain(|(score, _)| *score > 0.0);
    scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    scored.into_iter().map(|(_, tool)| tool).collect()
}

/// How much a tool has of each word.
fn weights(said: &Said<'_>, wanted: &[String]) -> Vec<u32> {
    let names: Vec<String> = said.names.iter().flat_map(|name| words(name)).collect();
    let keywords: Vec<String> = said.keywords.iter().flat_map(|word| words(word)).collect();
    let title: Vec<String> = words(said.title).collect();
    let description: Vec<String> = words(said.description).collect();
    let of_word = |word: &String| {
        let category = if said.category == word { IN_CATEGORY } else { 0 };
        found(&names, word, IN_NAME)
            + found(&keywords, word, IN_KEYWORDS)
            + found(&title, word, IN_TITLE)
            + found(&description, word, IN_DESCRIPTION)
            + category
    };
    wanted.iter().map(of_word).collect()
}

/// The whole weight for the word itself, half for its beginning.
fn found(words: &[String], wanted: &str, weight: u32) -> u32 {
    let one = |word: &String| {
        let shorter = word.len().min(wanted.len());
        match word.as_str() {
            word if word == wanted => weight,
            word if shorter >= 4 && (word.starts_with(wanted) || wanted.starts_with(word)) => weight / 2,
            _ => 0,
        }
    };
    words.iter().map(one).max().unwrap_or(0)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// How many names are offered for a misspelt one.
pub const NEAR_MAX: usize = 3;

/// At most [`NEAR_MAX`] of `names`, the most alike first.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    alike(name, names).take(NEAR_MAX).collect()
}

/// Those of `names` that are like `name`, the most alike first: in their letters, or in the words they share.
pub fn alike<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let name: String = name.chars().take(100).flat_map(char::to_lowercase).collect();
    let wanted: Vec<String> = words(&name).collect();
    let likeness = |known: &str| {
        let shared = wanted.iter().filter(|word| words(known).any(|other| other == **word)).count();
        let in_words = 0.5 + 0.5 * shared as f64 / wanted.len().max(1) as f64;
        strsim::jaro_winkler(&name, known).max(in_words)
    };
    let mut by_likeness: Vec<(f64, &str)> = names.map(|known| (likeness(known), known)).collect();
    by_likeness.retain(|(likeness, _)| *likeness >= LIKENESS_MIN);
    by_likeness.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    by_likeness.into_iter().map(|(_, known)| known)
}
