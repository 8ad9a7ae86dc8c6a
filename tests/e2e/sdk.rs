//! The official client libraries against the demo configuration, whose providers speak their own protocols.
//!
//! The libraries come from their registries, once, into a cache beside the user's other caches. Where a registry cannot
//! be reached the test says so and passes.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::sim::Sim;
use crate::harness::soon;
use std::path::{Path, PathBuf};
use std::process::Output;
use tokio::process::Command;

/// Versions that are known to work with the scripts.
const PYTHON: &str = "openai>=2,<3";
const NODE: &str = "openai@6";
const ANTHROPIC_PYTHON: &str = "anthropic>=0.70";
const ANTHROPIC_NODE: &str = "@anthropic-ai/sdk@>=0.60";

/// Routes of the demo, with every dialect among them.
pub const DIALECTS: [&str; 12] = [
    "anthropic",
    "bedrock",
    "claude-on-vertex",
    "openai",
    "vertex",
    "google_ai_studio",
    "mistral",
    "deepseek",
    "sagemaker",
    "sagemaker-tgi",
    "xai",
    "vllm",
];

/// The demo configuration on the test's own ports.
async fn demo(sim: &Sim) -> Gateway {
    demo_with(sim, "").await
}

/// The same with these keys of `server`.
pub async fn demo_with(sim: &Sim, server: &str) -> Gateway {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/demo.yaml")).unwrap();
    let text = text.replace("${TIDEGATE_DEMO_SIMULATOR:-127.0.0.1:3001}", &sim.address().to_string());
    let (start, end) = (text.find("\nproviders:").unwrap(), text.find("\nlog:").unwrap());
    let mut config = text[start..end].to_owned();
    // Beside the demo's own routes, one for the scripts in a model's name.
    let routes = "\nroutes:\n";
    let at = config.find(routes).unwrap() + routes.len();
    config.insert_str(at, "  \"script/*\": { targets: [ { provider: openai, model: \"*\" } ], retry: { attempts: 1 } }\n");
    Setup::new(&format!("server: {{ {server} }}{config}")).start().await
}

/// The routes of the demo that are named as their provider.
fn routes(config: &str) -> Vec<String> {
    let lines = config.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(':'));
    let own = lines.filter(|(name, rest)| rest.trim_start().starts_with(&format!("{{ targets: [ {{ provider: {name},")));
    own.map(|(name, _)| name.to_owned()).collect()
}

/// A folder that outlives the test.
pub fn cache(name: &str) -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap_or_else(std::env::temp_dir);
    let dir = base.join("tidegate-tests").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs a program to its end.
pub async fn run(program: &str, arguments: &[&str], dir: &Path) -> Output {
    let command = Command::new(program).args(arguments).current_dir(dir).kill_on_drop(true).output();
    match tokio::time::timeout(std::time::Duration::from_secs(240), command).await {
        Ok(output) => output.unwrap_or_else(|e| panic!("{program}: {e}")),
        Err(_) => panic!("{program} {arguments:?} does not end"),
    }
}

/// What a program printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Whether an installer failed because nobody answered it.
fn unreachable(said: &str) -> bool {
    [
        "NewConnectionError",
        "Connection refused",
        "Failed to establish",
        "ENOTFOUND",
        "ECONNREFUSED",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "ConnectTimeout",
        "Read timed out",
    ]
    .iter()
    .any(|sign| said.contains(sign))
}

/// Locks a folder until the file is closed: tests are processes of their own, and two of them may need the same library.
async fn lock(dir: &Path) -> std::fs::File {
    let file = std::fs::File::create(dir.join("lock")).unwrap();
    tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.unwrap().unwrap()
}

/// Runs an installer; `false`: its registry cannot be reached.
pub async fn installed(program: &str, arguments: &[&str], dir: &Path) -> bool {
    let output = run(program, arguments, dir).await;
    let said = text(&output);
    if output.status.success() {
        return true;
    }
    assert!(unreachable(&said), "{program} {arguments:?}: {said}");
    println!(
        "SKIPPED: {program} cannot reach its registry, so the client library was not tried: {}",
        said.lines().last().unwrap_or_default()
    );
    false
}

async fn script(program: &str, script: &Path, gateway: &Gateway, dir: &Path) {
    let base = format!("http://{}/v1", gateway.listen);
    let config = std::fs::read_to_string(&gateway.path).unwrap();
    let routes = routes(&config);
    assert!(routes.len() >= 8, "{routes:?}");
    let path = script.display().to_string();
    let mut arguments = vec![path.as_str(), &base, "tg-demo"];
    arguments.extend(routes.iter().map(String::as_str));
    let output = soon(&path, run(program, &arguments, dir)).await;
    assert!(output.status.success(), "{path}:\n{}", text(&output));
    println!("{}", text(&output).trim());
}

/// A script of `tests/sdk`.
pub fn scripts(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

/// A Python with OpenAI's library; `None` where it cannot be had.
pub async fn python(dir: &Path) -> Option<String> {
    python_with(dir, "openai", PYTHON).await
}

/// A Python with a module, from a package of this name; `None` where it cannot be had.
pub async fn python_with(dir: &Path, module: &str, package: &str) -> Option<String> {
    let _lock = lock(dir).await;
    let python = dir.join("bin/python").display().to_string();
    if !Path::new(&python).exists() {
        let made = run("python3", &["-m", "venv", "."], dir).await;
        assert!(made.status.success(), "{}", text(&made));
    }
    let there = run(&python, &["-c", &format!("import {module}")], dir).await.status.success();
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
    (there || installed(&python, &pip, dir).await).then_some(python)
}

/// Whether a folder has OpenAI's library for Node.
pub async fn node(dir: &Path) -> bool {
    node_with(dir, "openai", NODE).await
}

/// Whether a folder has a package for Node, by the module to import.
pub async fn node_with(dir: &Path, module: &str, package: &str) -> bool {
    let _lock = lock(dir).await;
    let there = run("node", &["-e", &format!("import('{module}')")], dir).await.status.success();
    if !there {
        let _absent = std::fs::remove_dir_all(dir.join("node_modules")); // npm takes what it was interrupted in for complete
    }
    there || installed("npm", &["install", "--silent", "--no-audit", "--no-fund", package], dir).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python() {
    let dir = cache("python");
    if let Some(python) = python(&dir).await {
        let sim = Sim::start().await;
        let gateway = demo(&sim).await;
        script(&python, &scripts("client.py"), &gateway, &dir).await;
        script(&python, &scripts("responses.py"), &gateway, &dir).await;
        script(&python, &scripts("endpoints.py"), &gateway, &dir).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropic_python() {
    let dir = cache("python-anthropic");
    if let Some(python) = python_with(&dir, "anthropic", ANTHROPIC_PYTHON).await {
        let sim = Sim::start().await;
        script(&python, &scripts("messages.py"), &demo(&sim).await, &dir).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropic_node() {
    let dir = cache("node-anthropic");
    if node_with(&dir, "@anthropic-ai/sdk", ANTHROPIC_NODE).await {
        let sim = Sim::start().await;
        let copy = dir.join(format!("messages-{}.mjs", std::process::id()));
        std::fs::copy(scripts("messages.mjs"), &copy).unwrap();
        script("node", &copy, &demo(&sim).await, &dir).await;
        std::fs::remove_file(copy).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_node_and_the_loop_of_the_documentation() {
    let dir = cache("node");
    let sim = Sim::start().await;
    let gateway = demo(&sim).await;
    script("node", &scripts("loop.mjs"), &gateway, &dir).await;
    if node(&dir).await {
        // A module finds its dependencies beside itself.
        for name in ["client", "responses", "endpoints"] {
            let copy = dir.join(format!("{name}-{}.mjs", std::process::id()));
            std::fs::copy(scripts(&format!("{name}.mjs")), &copy).unwrap();
            script("node", &copy, &gateway, &dir).await;
            std::fs::remove_file(copy).unwrap();
        }
    }
}
