//! Files that a caller writes into a task: their texts become blobs of the node.

use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::payload::BlobRef;
use magpie_core::task::FileRef;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mcp::answer::ToolError;
use crate::mcp::link::NodeLink;
use crate::mcp::pointer;
use crate::messages::blob::{BlobReply, BlobRequest, PUT_BEGINNINGS_MAX};

/// Texts of one call, all files together.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A file with its content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextFile {
    path: String,
    text: String,
    #[serde(default)]
    executable: bool,
}

/// Blobs that must be at the node before a task names them.
#[derive(Debug, Default)]
pub struct Uploads(Vec<(BlobRef, Vec<u8>)>);

impl Uploads {
    /// Takes the texts out of the list of files at `at`, and leaves references in their place.
    ///
    /// # Errors
    /// An entry that is neither a text nor a reference, or too much text.
    pub fn take_texts(&mut self, document: &mut Value, at: &str) -> Result<(), ToolError> {
        let Some(Value::Array(entries)) = document.pointer_mut(at) else { return Ok(()) };
        for (place, entry) in entries.iter_mut().enumerate() {
            let field = pointer::below(at, &place.to_string());
            if entry.is_string() {
                let fix = "give {path, text} with the file's content, or {path, cid, bytes} of an uploaded blob";
                return Err(ToolError::wrong_argument(
                    &field,
                    "a path on your machine cannot be read here",
                    "object",
                    fix,
                ));
            }
            if entry.get("text").is_some() {
                let file = TextFile::deserialize(&*entry).map_err(|error| {
                    ToolError::wrong_argument(&field, error, "{path, text, executable?}", "write {path, text}")
                })?;
                *entry = self.add_text(file)?;
            }
        }
        Ok(())
    }

    fn add_text(&mut self, file: TextFile) -> Result<Value, ToolError> {
        let blob = self.add(file.text.into_bytes())?;
        Ok(json!(FileRef { path: file.path, cid: blob.cid, bytes: blob.bytes, executable: file.executable }))
    }

    /// Adds a blob of the caller's bytes.
    ///
    /// # Errors
    /// If the call holds too much text.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<BlobRef, ToolError> {
        let held: usize = self.0.iter().map(|(_, bytes)| bytes.len()).sum();
        if held + bytes.len() > TEXT_BYTES_MAX {
            let message = format!("the files of one call have more than {TEXT_BYTES_MAX} bytes of text");
            return Err(ToolError::new(
                "too_large",
                message,
                "upload with nodectl blob put, and give {path, cid, bytes}",
            ));
        }
        let blob = BlobRef { cid: ContentId::of(&bytes), bytes: bytes.len() as u64 };
        self.0.push((blob, bytes));
        Ok(blob)
    }

    /// Sends all to the node, which has them on disk when this answers.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn send(self, link: &NodeLink) -> Result<(), ToolError> {
        for (blob, bytes) in self.0 {
            send(link, blob, &bytes).await?;
        }
        Ok(())
    }
}

async fn send(link: &NodeLink, blob: BlobRef, bytes: &[u8]) -> Result<(), ToolError> {
    let (mut offset, mut beginnings) = (0, 0);
    loop {
        let end = bytes.len().min(offset + limits::BLOB_CHUNK_BYTES_MAX);
        let piece = bytes[offset..end].to_vec();
        let next = match link.blob(BlobRequest::Put { blob, offset: offset as u64, piece }).await? {
            BlobReply::Put { next } => usize::try_from(next).unwrap_or(usize::MAX),
            _ => return Err(crate::mcp::link::unexpected()),
        };
        if next >= bytes.len() {
            return Ok(());
        }
        beginnings += u32::from(next <= offset);
        if beginnings > PUT_BEGINNINGS_MAX {
            let message = format!("the node did not take the blob {}", blob.cid);
            return Err(ToolError::passing("unavailable", message, "call again", 1_000));
        }
        offset = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_references_and_references_stay() {
        let mut uploads = Uploads::default();
        let cid = ContentId::of(b"x").to_string();
        let mut document = json!({"files": [
            {"path": "a.py", "text": "print(1)", "executable": true},
            {"path": "b", "cid": cid, "bytes": 1},
        ]});
        uploads.take_texts(&mut document, "/files").unwrap();
        assert_eq!(uploads.0.len(), 1);
        assert_eq!(document["files"][0]["cid"], ContentId::of(b"print(1)").to_string());
        assert_eq!(document["files"][0]["executable"], true);
        assert_eq!(document["files"][1], json!({"path": "b", "cid": cid, "bytes": 1}));
    }

    #[test]
    fn a_bare_path_and_a_wrong_file_are_told_with_their_place() {
        for (entry, said) in [(json!("a.py"), "cannot be read here"), (json!({"text": "x"}), "path")] {
            let mut document = json!({"steps": [{"files": [entry]}]});
            let error = Uploads::default().take_texts(&mut document, "/steps/0/files").unwrap_err();
            assert_eq!(error.field.as_deref(), Some("/steps/0/files/0"));
            assert!(error.message.contains(said), "{}", error.message);
        }
    }
}
