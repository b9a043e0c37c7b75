//! Which models a node has: one directory per model, under the model directories of its configuration.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use magpie_core::ids::ContentId;
use magpie_core::limits::{MODELS_MAX, NAME_BYTES_MAX};
use sha2::{Digest, Sha256};

/// What a model's directory must hold, the weights first.
const FILES: [&str; 3] = ["model.safetensors", "config.json", "tokenizer.json"];
/// Other names of a model, in lower case.
const ALIASES: [(&str, &str); 2] =
    [("all-minilm-l6-v2", "minilm"), ("sentence-transformers/all-minilm-l6-v2", "minilm")];
const READ_BYTES: usize = 1 << 20;

/// A model whose files are there; whether they are sound shows when a device loads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    pub directory: PathBuf,
    pub weight_bytes: u64,
}

/// A name that no model directory of the node knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no model {presented:?} here; there are: {}{}", list(.known), hint(.incomplete, .presented))]
pub struct FindModelError {
    pub presented: String,
    pub known: Vec<String>,
    /// What is wrong with the directories that are no models.
    pub incomplete: Vec<String>,
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none (`scripts/fetch.sh minilm` fetches one)".to_owned() } else { names.join(", ") }
}

fn hint(incomplete: &[String], presented: &str) -> String {
    incomplete.iter().find(|text| text.contains(presented)).map(|text| format!("; {text}")).unwrap_or_default()
}

/// The models found at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelCatalog {
    models: BTreeMap<String, Model>,
    incomplete: Vec<String>,
}

impl ModelCatalog {
    /// Looks into `directories`; of two models with one name the first is taken. Reads no weights.
    pub fn scan(directories: &[PathBuf]) -> Self {
        let mut catalog = Self::default();
        for directory in directories {
            // A directory that is not there holds no models: the default cache before anything was fetched.
            let Ok(entries) = fs::read_dir(directory) else { continue };
            let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            entries.sort();
            for entry in entries {
                catalog.add(&entry);
            }
        }
        catalog
    }

    /// The names of all models, without aliases, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    /// What is wrong with the directories that are no models, a sentence each.
    pub fn incomplete(&self) -> &[String] {
        &self.incomplete
    }

    /// The model of that name or alias, upper and lower case alike.
    ///
    /// # Errors
    /// There is none; the error says which there are.
    pub fn find(&self, name: &str) -> Result<&Model, FindModelError> {
        self.models.get(&canonical(name)).ok_or_else(|| FindModelError {
            presented: name.chars().take(NAME_BYTES_MAX).collect(),
            known: self.names().map(str::to_owned).collect(),
            incomplete: self.incomplete.clone(),
        })
    }

    fn add(&mut self, directory: &Path) {
        let Some(name) = directory.file_name().and_then(|name| name.to_str()).map(canonical) else { return };
        let named = !name.starts_with('.') && name.len() <= NAME_BYTES_MAX;
        if !directory.is_dir() || !named || self.models.contains_key(&name) || self.models.len() >= MODELS_MAX {
            return;
        }
        let sizes = FILES.map(|file| fs::metadata(directory.join(file)).map(|metadata| metadata.len()));
        match sizes {
            [Ok(weight_bytes), Ok(_), Ok(_)] => {
                let model = Model { name: name.clone(), directory: directory.to_owned(), weight_bytes };
                self.models.insert(name, model);
            }
            sizes if self.incomplete.len() < MODELS_MAX => {
                let lacking: Vec<&str> =
                    FILES.into_iter().zip(&sizes).filter(|(_, size)| size.is_err()).map(|(file, _)| file).collect();
                self.incomplete.push(format!("{} lacks {}", directory.display(), lacking.join(", ")));
            }
            _ => {}
        }
    }
}

impl Model {
    /// The sha256 of the weights: two nodes that name the same one embed alike. Reads the whole file, so it belongs on a
    /// thread that may block.
    ///
    /// # Errors
    /// The system's, when the file cannot be read.
    pub fn weights_digest(&self) -> io::Result<ContentId> {
        let mut file = File::open(self.directory.join(FILES[0]))?;
        let mut digest = Sha256::new();
        let mut block = vec![0; READ_BYTES];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(ContentId(digest.finalize().into())),
                length => digest.update(&block[..length]),
            }
        }
    }
}

fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, model)| (*model).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_model(directory: &Path, files: &[&str]) {
        fs::create_dir_all(directory).unwrap();
        for file in files {
            fs::write(directory.join(file), file).unwrap();
        }
    }

    #[test]
    fn a_model_is_found_by_its_name_and_its_aliases() {
        let cache = tempfile::tempdir().unwrap();
        write_model(&cache.path().join("minilm"), &FILES);
        let catalog = ModelCatalog::scan(&[PathBuf::from("/nowhere"), cache.path().to_owned()]);
        for name in ["minilm", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "MINILM"] {
            let model = catalog.find(name).unwrap();
            assert_eq!((model.name.as_str(), model.weight_bytes), ("minilm", FILES[0].len() as u64));
        }
    }

    #[test]
    fn a_model_kept_under_its_long_name_is_the_same() {
        let cache = tempfile::tempdir().unwrap();
        write_model(&cache.path().join("all-MiniLM-L6-v2"), &FILES);
        let catalog = ModelCatalog::scan(&[cache.path().to_owned()]);
        assert_eq!(catalog.names().collect::<Vec<_>>(), ["minilm"]);
        assert!(catalog.find("minilm").unwrap().directory.ends_with("all-MiniLM-L6-v2"));
    }

    #[test]
    fn the_first_directory_wins() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_model(&two.path().join("a"), &FILES);
        write_model(&one.path().join("a"), &FILES);
        write_model(&two.path().join("b"), &FILES);
        let catalog = ModelCatalog::scan(&[one.path().to_owned(), two.path().to_owned()]);
        assert_eq!(catalog.names().collect::<Vec<_>>(), ["a", "b"]);
        assert!(catalog.find("a").unwrap().directory.starts_with(one.path()));
    }

    #[test]
    fn an_unknown_model_names_those_there_are() {
        let cache = tempfile::tempdir().unwrap();
        let none = ModelCatalog::scan(&[cache.path().to_owned()]).find("gpt").unwrap_err();
        assert_eq!(none.to_string(), "no model \"gpt\" here; there are: none (`scripts/fetch.sh minilm` fetches one)");
        write_model(&cache.path().join("minilm"), &FILES);
        let one = ModelCatalog::scan(&[cache.path().to_owned()]).find("gpt").unwrap_err();
        assert_eq!(one.to_string(), "no model \"gpt\" here; there are: minilm");
    }

    #[test]
    fn an_incomplete_model_is_none_and_says_what_it_lacks() {
        let cache = tempfile::tempdir().unwrap();
        write_model(&cache.path().join("half"), &FILES[..1]);
        write_model(&cache.path().join(".half.staging"), &FILES);
        fs::write(cache.path().join("a-file"), "").unwrap();
        let catalog = ModelCatalog::scan(&[cache.path().to_owned()]);
        assert_eq!(catalog.incomplete().len(), 1);
        let error = catalog.find("half").unwrap_err().to_string();
        assert!(error.ends_with("half lacks config.json, tokenizer.json"), "{error}");
    }

    #[test]
    fn the_digest_is_that_of_the_weights() {
        let cache = tempfile::tempdir().unwrap();
        write_model(&cache.path().join("minilm"), &FILES);
        let catalog = ModelCatalog::scan(&[cache.path().to_owned()]);
        let model = catalog.find("minilm").unwrap();
        assert_eq!(model.weights_digest().unwrap(), ContentId::of(FILES[0].as_bytes()));
        fs::remove_file(model.directory.join(FILES[0])).unwrap();
        assert_eq!(model.weights_digest().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
