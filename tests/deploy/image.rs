//! The Dockerfile's last stage by a real engine (podman), with stand-ins for what a registry has: the base is the C library and
//! libgcc of this host, the binary is the one under test. Nothing is downloaded.

use super::chart::text;
use super::dir::Dir;
use super::root;
use std::fs;
use std::process::{Command, Output};

/// The time of all files of an image.
const EPOCH: &str = "--timestamp=1700000000";

/// Runs podman with a store of its own; steps run in a chroot, which needs no rights but root's. `None` where it is not installed.
fn podman(folder: &Dir, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("podman");
    command.args(["--root", "store", "--runroot", "run", "--storage-driver", "vfs"]).args(arguments);
    match command.env("BUILDAH_ISOLATION", "chroot").current_dir(&**folder).output() {
        Ok(output) => Some(output),
        Err(e) => {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
            println!("SKIPPED: podman is not installed");
            None
        }
    }
}

/// Builds an image.
fn build(folder: &Dir, name: &str, containerfile: &str) -> Option<Output> {
    let file = format!("{name}.Containerfile");
    folder.write(&file, containerfile);
    podman(folder, &["build", "--quiet", "--no-cache", EPOCH, "--tag", name, "--file", &file, "context"])
}

/// The id of an image that has to build.
fn id(folder: &Dir, name: &str, containerfile: &str) -> String {
    let output = build(folder, name, containerfile).unwrap();
    assert!(output.status.success(), "{name}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Builds the base, and runs a step in it: whether podman works for this user, in this environment.
fn works(folder: &Dir, loader: &str) -> bool {
    for (name, containerfile) in [
        ("base", "FROM scratch\nCOPY base/ /\nUSER 65532\n".to_owned()),
        ("probe", format!("FROM localhost/base\nRUN [\"{loader}\", \"--help\"]\n")),
    ] {
        let Some(output) = build(folder, name, &containerfile) else { return false };
        if !output.status.success() {
            println!("SKIPPED: podman does not work here: {}", text(&output.stderr));
            return false;
        }
    }
    true
}

#[test]
fn the_image_is_the_same_twice_and_runs_as_nobody_with_the_c_library_alone() {
    let folder = Dir::new();
    let context = folder.join("context");
    let binary = env!("CARGO_BIN_EXE_tidegate");
    let libraries = Command::new("ldd").arg(binary).output().unwrap();
    let libraries = text(&libraries.stdout);
    let paths: Vec<_> = libraries.split_whitespace().filter(|word| word.starts_with('/')).collect();
    assert!(paths.len() >= 3, "{libraries}");
    let loader = *paths.iter().find(|path| path.contains("/ld-linux")).unwrap();
    for path in paths {
        let name = path.rsplit('/').next().unwrap();
        assert!(["libc.so", "libm.so", "libgcc_s.so", "ld-linux"].iter().any(|known| name.starts_with(known)), "{name} is not in the base");
        let copy = context.join("base").join(path.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(path, copy).unwrap();
    }
    fs::copy(binary, context.join("tidegate")).unwrap();
    let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
    let (_, stage) = dockerfile.split_once("FROM ${RUNTIME}\n").unwrap();
    assert_eq!(stage.matches("COPY --from=build /tidegate ").count(), 1);
    let stage = format!("FROM localhost/base\n{}", stage.replace("COPY --from=build /tidegate ", "COPY tidegate "));

    if !works(&folder, loader) {
        return;
    }
    assert_eq!(id(&folder, "one", &stage), id(&folder, "two", &stage), "two builds are two images");
    let inspect = podman(
        &folder,
        &["image", "inspect", "one", "--format", "{{.User}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.StopSignal}}"],
    );
    assert_eq!(text(&inspect.unwrap().stdout).trim(), "65532 [/usr/bin/tidegate] [run] SIGTERM");
    // A step of a build runs in the image, as its user.
    let run = "FROM localhost/one\nRUN [\"/usr/bin/tidegate\", \"--version\"]\n";
    folder.write("run.Containerfile", run);
    let output = podman(&folder, &["build", "--no-cache", "--file", "run.Containerfile", "context"]).unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains(&format!("tidegate {}", env!("CARGO_PKG_VERSION"))), "{said}");
}
