use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use super::apart::apart;
use super::crash::{Survivors, every_one, fast_dir, seeded, write_out};
use super::fuse::Mounted;
use super::recorded::{Disk, Happened};
use super::run::{self, Said};
use super::tree::Tree;

const OPERATIONS: u64 = 200;

/// A disk after a crash, and what had been acknowledged before.
struct Image {
    tree: Tree,
    said: Arc<Vec<Said>>,
    place: usize,
    how: &'static str,
}

/// Crashes a recorded disk after each request, by a power loss and by a kill, and hands every image to `check`.
pub fn crash_everywhere(happened: &[Happened], test: &str, check: impl Fn(&Path, &[Said]) + Sync) {
    let (sender, images) = sync_channel::<Image>(8);
    let (images, failed) = (Mutex::new(images), Mutex::new(None));
    let work = || {
        while let Some(image) = next(&images) {
            if failed.lock().unwrap().is_none() && catch_unwind(AssertUnwindSafe(|| look(&image, &check))).is_err() {
                let where_ = format!("after {} at request {} of {}", image.how, image.place, happened.len());
                failed.lock().unwrap().get_or_insert(where_);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
        send_images(happened, test, |image| {
            let goes_on = failed.lock().unwrap().is_none();
            goes_on && sender.send(image).is_ok()
        });
        drop(sender);
    });
    assert_eq!(failed.into_inner().unwrap(), None);
}

fn next(images: &Mutex<Receiver<Image>>) -> Option<Image> {
    images.lock().unwrap().recv().ok()
}

fn look(image: &Image, check: &impl Fn(&Path, &[Said])) {
    let root = fast_dir();
    write_out(&image.tree, root.path());
    check(&root.path().join("data"), &image.said);
}

fn send_images(happened: &[Happened], test: &str, mut send: impl FnMut(Image) -> bool) {
    let mut rng = seeded(test);
    let (mut survivors, mut said) = (Survivors::default(), Arc::new(Vec::new()));
    let draws = if every_one() { 5 } else { 1 };
    for (place, happened) in happened.iter().enumerate() {
        survivors.happen(happened, &mut rng);
        if let Happened::Said(what) = happened {
            Arc::make_mut(&mut said).push(what.clone());
            continue;
        }
        let mut trees: Vec<_> = (0..draws).map(|_| ("a power loss", survivors.after_power_loss(&mut rng))).collect();
        if place.is_multiple_of(4) {
            trees.push(("a kill", survivors.after_kill()));
        }
        for (how, tree) in trees {
            if !send(Image { tree, said: said.clone(), place, how }) {
                return;
            }
        }
    }
}

#[test]
fn a_crash_at_every_write_sync_and_rename_loses_nothing_acknowledged_and_tears_nothing() {
    apart("crashes::a_crash_at_every_write_sync_and_rename_loses_nothing_acknowledged_and_tears_nothing", || {
        let Some(mounted) = Mounted::new(Disk::new()) else { return };
        run::work(&mounted.root, OPERATIONS);
        let happened = mounted.disk.happened();
        drop(mounted);
        println!("{OPERATIONS} operations, {} requests to the disk", happened.len());
        assert!(happened.len() > 1_000, "{}", happened.len());
        crash_everywhere(&happened, "crash at every request", run::check);
    });
}
