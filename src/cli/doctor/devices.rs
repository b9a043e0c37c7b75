//! What computes: the device process, libtorch below it, and GPUs.

use std::path::Path;

use super::place::Place;
use super::{Check, Heard};
use crate::inference::device_process::{DeviceProcess, DeviceProcessConfig, StartDeviceError};
use crate::messages::device::DeviceView;

const DEVICE: &str = "device";
const LIBTORCH: &str = "libtorch";

pub(super) async fn check(place: &Place, heard: Option<&Heard>) -> Vec<Check> {
    let mut checks = match heard {
        Some(heard) => of_the_node(heard),
        None if !place.config.inference.enabled => vec![Check::ok(DEVICE, "none needed: inference.enabled is false")],
        None => vec![started_here(place).await],
    };
    checks.push(gpu());
    checks
}

fn of_the_node(heard: &Heard) -> Vec<Check> {
    let status = &heard.status;
    let mut checks: Vec<Check> = status.devices.iter().map(of_view).collect();
    if checks.is_empty() {
        let why = status.notices.iter().find(|notice| notice.contains("inference"));
        checks.push(match why {
            Some(why) if why.contains("inference.enabled is false") => Check::ok(DEVICE, format!("the node {why}")),
            Some(why) => Check::warning(
                DEVICE,
                format!("the node {why}"),
                "run `make build`, which builds it, if the node is to embed",
            ),
            None => Check::ok(DEVICE, "the node has none"),
        });
    }
    checks
}

fn of_view(device: &DeviceView) -> Check {
    let name = &device.name;
    match (&device.why, device.state.as_str()) {
        (None, state) => {
            let torch =
                device.torch_version.as_ref().map(|version| format!(", libtorch {version}")).unwrap_or_default();
            Check::ok(DEVICE, format!("{name} is {state}{torch}; {} models", device.models.len()))
        }
        (Some(why), "ready") => {
            let remedy = "see `models` above; the device offers no model whose files are damaged or missing";
            Check::fault(DEVICE, format!("{name} runs and does not offer a model: {why}"), remedy)
        }
        (Some(why), _) => broken(format!("{name} does not run ({} starts so far): {why}", device.restarts + 1), why),
    }
}

/// Starts a device process and ends it: what a node would do.
async fn started_here(place: &Place) -> Check {
    let inference = &place.config.inference;
    let config = match DeviceProcessConfig::cpu(inference.device.as_deref().map(Path::new), inference.threads) {
        Ok(config) => config,
        Err(error) => return Check::warning(DEVICE, error.to_string(), "run `make build`, if the node is to embed"),
    };
    match DeviceProcess::start(&config).await {
        Ok(device) => {
            Check::ok(DEVICE, format!("{} starts, libtorch {}", config.binary.display(), device.ready().torch_version))
        }
        Err(error @ StartDeviceError::LibtorchMissing { .. }) => libtorch(error.to_string()),
        Err(error) => broken(error.to_string(), &error.to_string()),
    }
}

/// The loader's words tell a library that is missing, or of another version, from a process that dies.
fn broken(found: String, why: &str) -> Check {
    let of_the_loader =
        ["error while loading shared libraries", "symbol lookup error", "libtorch is missing", "undefined symbol"];
    if of_the_loader.iter().any(|words| why.contains(words)) {
        return libtorch(found);
    }
    let remedy = "run the binary by hand: it says on standard error why it ends; signal 9 is mostly the kernel, out of memory \
                  (`dmesg`), signal 4 a CPU that this libtorch was not built for";
    Check::fault(DEVICE, found, remedy)
}

fn libtorch(found: String) -> Check {
    let remedy = "run `make build` again, which fetches the libtorch that it links; one of another version does not do, so \
                  take no LD_LIBRARY_PATH along";
    Check::fault(LIBTORCH, found, remedy)
}

/// A GPU that is there and not used is worth a word.
fn gpu() -> Check {
    let driver = Path::new("/proc/driver/nvidia/version").exists();
    let device = Path::new("/dev/nvidia0").exists();
    match (driver, device) {
        (false, false) => Check::ok("gpu", "none on this machine"),
        (true, false) => {
            let remedy =
                "in a container: start it with the GPU (`--gpus all`); else `nvidia-modprobe`, or load the module";
            Check::warning("gpu", "the NVIDIA driver is loaded and shows no /dev/nvidia0", remedy)
        }
        (_, true) => Check::ok("gpu", "/dev/nvidia0 is there; tasks use the CPU device, the only one of this version"),
    }
}
