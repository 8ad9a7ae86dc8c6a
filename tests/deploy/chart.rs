//! The Helm chart by Helm itself, and the plain manifests that are generated from it.

use super::dir::Dir;
use super::{environment, files, keys, root, yaml};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tidegate::config;

const CHART: &str = "deploy/helm/tidegate";
/// Everything that is off by default.
const ALL: [&str; 10] = [
    "--set=autoscaling.enabled=true",
    "--set=serviceMonitor.enabled=true",
    "--set=serviceMonitor.labels.team=ops",
    "--set=prometheusRule.enabled=true",
    "--set=imagePullSecrets[0].name=pull",
    "--set=env[0].name=REGION,env[0].value=eu",
    "--set=networkPolicy.clients[0].podSelector.matchLabels.app=web",
    "--set=serviceAccount.annotations.role=arn",
    "--set=nodeSelector.disk=ssd,affinity.nodeAffinity=null",
    "--set=tolerations[0].operator=Exists",
];

/// Runs a tool of `deploy/needs`; `None` where it is not installed.
pub fn tool(name: &str, arguments: &[&str], home: &Path) -> Option<Output> {
    let mut command = Command::new("bash");
    command.args(["-c", "source deploy/needs; command -v \"$1\" >/dev/null || exit 127; exec \"$@\"", "bash", name]).args(arguments);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home);
    }
    let output = command.current_dir(root()).output().unwrap();
    if output.status.code() == Some(127) {
        println!("SKIPPED: {name} is not installed");
        return None;
    }
    Some(output)
}

/// What a tool printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The chart's manifests with these arguments, or what Helm says against them.
fn template(arguments: &[&str], home: &Dir) -> Option<Result<Vec<Value>, String>> {
    let output = tool("helm", &[&["template", "tidegate", CHART, "--namespace", "tidegate"], arguments].concat(), home)?;
    if !output.status.success() {
        return Some(Err(text(&output.stderr)));
    }
    let rendered = text(&output.stdout);
    let documents = rendered.split("---\n").filter(|document| document.contains("kind:"));
    Some(Ok(documents.map(|document| super::read_yaml(document, "the chart's output")).collect()))
}

fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    manifests.iter().find(|manifest| manifest["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn helm_finds_no_fault_with_the_chart() {
    let home = Dir::new();
    for arguments in [&[][..], &ALL] {
        let Some(output) = tool("helm", &[&["lint", "--strict", CHART], arguments].concat(), &home) else { return };
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn the_plain_manifests_are_those_of_the_chart() {
    let home = Dir::new();
    let out = home.join("out");
    let to = format!("--output-dir={}", out.display());
    let arguments = ["template", "tidegate", CHART, "--namespace", "tidegate", &to];
    let Some(output) = tool("helm", &arguments, &home) else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rendered = fs::read_dir(out.join("tidegate/templates")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = rendered.map(|entry| entry.file_name().into_string().unwrap()).collect();
    for name in &names {
        let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let same = read(out.join("tidegate/templates").join(name)) == read(root().join("deploy/kubernetes").join(name));
        assert!(same, "deploy/kubernetes/{name} is not what the chart makes: run deploy/kubernetes/generate");
    }
    // No file of an earlier chart is left, and kustomize takes all.
    names.extend(["namespace.yaml".to_owned(), "secret.yaml".to_owned()]);
    names.sort();
    let mut resources: Vec<_> = yaml("deploy/kubernetes/kustomization.yaml")["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r.as_str().unwrap().to_owned())
        .collect();
    resources.sort();
    assert_eq!(names, resources);
    let there = files("deploy/kubernetes", &["yaml"]).len();
    assert_eq!(there, names.len() + 1, "and kustomization.yaml");
}

#[test]
fn every_manifest_keeps_to_the_schema_of_kubernetes() {
    let home = Dir::new();
    let Some(manifests) = template(&ALL, &home) else { return };
    let manifests = manifests.unwrap();
    let kinds: Vec<_> = manifests.iter().map(|manifest| manifest["kind"].as_str().unwrap()).collect();
    for kind in ["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    // Those of the Prometheus operator have a schema of its own.
    let own = manifests.iter().filter(|manifest| !manifest["apiVersion"].as_str().unwrap().starts_with("monitoring.coreos.com/"));
    let mut paths: Vec<_> = own
        .enumerate()
        .map(|(i, manifest)| {
            let path = home.join(format!("{i}.json"));
            fs::write(&path, manifest.to_string()).unwrap();
            path
        })
        .collect();
    paths.extend(files("deploy/kubernetes", &["yaml"]).into_iter().filter(|path| !path.ends_with("kustomization.yaml")));
    let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let Some(output) = tool("kubernetes-validate", &[&["--strict"], &paths[..]].concat(), &home) else { return };
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    // It would notice.
    let mut wrong = of_kind(&manifests, "Deployment").clone();
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 5.into();
    let path = home.join("wrong.json");
    fs::write(&path, wrong.to_string()).unwrap();
    assert!(!tool("kubernetes-validate", &["--strict", path.to_str().unwrap()], &home).unwrap().status.success());
}

#[test]
fn the_rendered_configuration_is_good_and_the_rules_are_the_shipped_ones() {
    let home = Dir::new();
    let Some(manifests) = template(&ALL, &home) else { return };
    let manifests = manifests.unwrap();
    let config = of_kind(&manifests, "ConfigMap")["data"]["tidegate.yaml"].as_str().unwrap();
    let path = home.join("tidegate.yaml");
    fs::write(&path, config).unwrap();
    let keys = keys();
    let check = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--config", path.to_str().unwrap()])
        .env("TIDEGATE_SECRETS", &*keys)
        .output()
        .unwrap();
    assert!(check.status.success(), "{}{}", text(&check.stdout), text(&check.stderr));
    assert_eq!(of_kind(&manifests, "PrometheusRule")["spec"], yaml("deploy/rules.yaml"));
    let mount = &of_kind(&manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!((&mount["mountPath"], &mount["subPath"]), (&json!("/etc/tidegate"), &Value::Null));
}

#[test]
fn pods_are_scraped_once_and_as_the_job_of_the_alerts() {
    let home = Dir::new();
    let Some(plain) = template(&["--set=podAnnotations.owner=ops"], &home) else { return };
    let annotations = |manifests: &[Value]| of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["annotations"].clone();
    let scraped = json!({
        "owner": "ops", "prometheus.io/scrape": "true", "prometheus.io/port": "9464", "prometheus.io/path": "/metrics",
    });
    assert_eq!(annotations(&plain.unwrap()), scraped);
    let monitored = template(&["--set=serviceMonitor.enabled=true"], &home).unwrap().unwrap();
    assert_eq!(annotations(&monitored), Value::Null);
    let label = of_kind(&monitored, "ServiceMonitor")["spec"]["jobLabel"].as_str().unwrap().to_owned();
    let services: Vec<_> = monitored.iter().filter(|one| one["kind"] == "Service").map(|one| &one["metadata"]["labels"]).collect();
    let service = services.iter().find(|labels| labels["app.kubernetes.io/component"] == "admin").unwrap();
    let rules = fs::read_to_string(root().join("deploy/rules.yaml")).unwrap();
    assert!(rules.contains(&format!("up{{job={}}}", service[&label])), "{label}");
}

#[test]
fn a_name_that_looks_like_a_number_is_text() {
    let home = Dir::new();
    let arguments = [
        "template",
        "1234",
        CHART,
        "--set-string=serviceAccount.name=12,secretName=34",
        "--set=serviceMonitor.enabled=true",
        "--set=autoscaling.enabled=true",
    ];
    let Some(output) = tool("helm", &arguments, &home) else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rendered = text(&output.stdout);
    for document in rendered.split("---\n").filter(|document| document.contains("kind:")) {
        let manifest = super::read_yaml(document, "the chart's output");
        assert!(
            manifest["metadata"]["name"].is_string() && manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "1234",
            "{document}"
        );
        if manifest["kind"] == "Deployment" {
            let pod = &manifest["spec"]["template"]["spec"];
            assert_eq!((&pod["serviceAccountName"], &pod["volumes"][1]["secret"]["secretName"]), (&json!("12"), &json!("34")));
        }
    }
}

#[test]
fn no_configuration_of_the_deployments_has_a_password() {
    for path in files("deploy", &["yaml"]) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("PASSWORD@"), "{}", path.display());
    }
}

/// A configuration with this `server`.
fn configuration(server: &str, admin: &str) -> String {
    let own = fs::read_to_string(root().join(CHART).join("tidegate.yaml")).unwrap();
    let (start, rest) = own.split_once("\nserver:\n").unwrap();
    let (_, rest) = rest.split_once("\n\n").unwrap();
    format!("{start}\nserver: {{ {server} }}\n\n{rest}").replace("0.0.0.0:9464", admin)
}

#[test]
fn a_pod_has_time_for_its_drain_whatever_the_configuration_says() {
    let (home, keys) = (Dir::new(), keys());
    let path = home.join("tidegate.yaml");
    let set = format!("--set-file=config={}", path.display());
    for server in [
        "drain_delay: 5s",
        "drain_delay: 5s, drain_timeout: 0s",
        "drain_delay: 4500ms, drain_timeout: 1m30s",
        "drain_delay: 10s, drain_timeout: 1h1m1s1ms",
        "drain_timeout: 2d, drain_delay: 1m",
    ] {
        let text = configuration(server, "0.0.0.0:9464");
        fs::write(&path, &text).unwrap();
        let Some(manifests) = template(&[&set], &home) else { return };
        let manifests = manifests.unwrap();
        let pod = &of_kind(&manifests, "Deployment")["spec"]["template"]["spec"];
        let loaded = config::parse(&text, "chart", &|name| environment(name, &keys)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let settings = loaded.snapshot.server;
        let seconds = |time: std::time::Duration| time.as_millis().div_ceil(1000) as u64;
        let least = seconds(settings.drain_delay) + seconds(settings.drain_timeout) + 15;
        assert_eq!(pod["terminationGracePeriodSeconds"].as_u64(), Some(least), "{server}");
        let probe = &pod["containers"][0]["readinessProbe"];
        let noticed = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
        assert!(noticed <= seconds(settings.drain_delay), "{server}");
    }
}

#[test]
fn what_would_not_work_is_refused_by_name() {
    let home = Dir::new();
    let path = home.join("tidegate.yaml");
    let set = format!("--set-file=config={}", path.display());
    fs::write(&path, configuration("drain_delay: 5s", "0.0.0.0:9464")).unwrap();
    for (arguments, said) in [
        (&["--set=terminationGracePeriodSeconds=79"][..], "at least 80 are needed"),
        (&["--set=readinessProbe.periodSeconds=3"], "server.drain_delay is 5s; at least 6s are needed"),
        (&["--set=replica=5"], "additional properties 'replica' not allowed"),
        (&["--set=image.tag=latest"], "image/tag"),
        (&["--set=image.digest=sha256:12"], "image/digest"),
        (&["--set=networkPolicy.monitoring=null"], "networkPolicy"),
    ] {
        let Some(result) = template(&[&[set.as_str()], arguments].concat(), &home) else { return };
        let problem = result.expect_err(&arguments.join(" "));
        assert!(problem.contains(said), "{arguments:?}: {problem}");
    }
    for (server, admin, said) in [
        ("drain_timeout: 5s", "0.0.0.0:9464", "server.drain_delay is 0s"),
        ("drain_delay: \"${DELAY}\"", "0.0.0.0:9464", "server.drain_delay: \"${DELAY}\" is not a duration"),
        ("drain_delay: 5s", "127.0.0.1:9464", "admin.address is \"127.0.0.1:9464\""),
        ("drain_delay: 5s", "0.0.0.0:9465", "admin.address is \"0.0.0.0:9465\""),
        ("drain_delay: [", "0.0.0.0:9464", "config: "),
    ] {
        fs::write(&path, configuration(server, admin)).unwrap();
        let problem = template(&[&set], &home).unwrap().expect_err(server);
        assert!(problem.contains(said), "{server}: {problem}");
    }
    let good = configuration("drain_delay: 5s", "0.0.0.0:9464");
    let own = "listen:\n  - address: 0.0.0.0:3000\n";
    assert!(good.contains(own));
    for (listen, said) in [
        ("", Some("listen has 127.0.0.1:3000")),
        ("listen: { address: 127.0.0.1:3000 }\n", Some("listen has 127.0.0.1:3000")),
        ("listen: [ { address: \"[::1]:3000\" }, { address: 0.0.0.0:3443 } ]\n", Some("listen has [::1]:3000, 0.0.0.0:3443")),
        ("listen: [ { address: \"unix:/run/a.sock\" } ]\n", Some("the Service needs 0.0.0.0:3000")),
        ("listen: { address: \"[::]:3000\" }\n", None),
        ("listen: [ { address: 127.0.0.1:3000 }, { address: 0.0.0.0:3000 } ]\n", None),
    ] {
        fs::write(&path, good.replace(own, listen)).unwrap();
        match (template(&[&set], &home).unwrap(), said) {
            (Err(problem), Some(said)) => assert!(problem.contains(said), "{listen}: {problem}"),
            (result, said) => assert!(result.is_ok() && said.is_none(), "{listen}: {result:?}"),
        }
    }
    // More time than is needed is fine, and an image may be pinned.
    fs::write(&path, configuration("drain_delay: 5s", "0.0.0.0:9464")).unwrap();
    let digest = format!("--set=terminationGracePeriodSeconds=100,image.digest=sha256:{}", "a".repeat(64));
    let manifests = template(&[&set, &digest], &home).unwrap().unwrap();
    let pod = &of_kind(&manifests, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 100);
    assert!(pod["containers"][0]["image"].as_str().unwrap().ends_with(&format!("tidegate@sha256:{}", "a".repeat(64))));
}

#[test]
fn kustomize_puts_the_plain_manifests_together() {
    match Command::new("kubectl").args(["kustomize", "deploy/kubernetes"]).current_dir(root()).output() {
        Ok(output) => {
            let made = text(&output.stdout);
            assert!(output.status.success(), "{}", text(&output.stderr));
            let documents: Vec<_> = made.split("---\n").map(|document| super::read_yaml(document, "kustomize")).collect();
            assert_eq!(documents.len(), 8);
            assert!(documents.iter().all(|one| one["kind"] == "Namespace" || one["metadata"]["namespace"] == "tidegate"));
        }
        Err(e) => {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
            println!("SKIPPED: kubectl is not installed");
        }
    }
}

#[test]
fn a_pod_has_no_rights() {
    let pod = &yaml("deploy/kubernetes/deployment.yaml")["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(
        (&pod["securityContext"]["runAsNonRoot"], &pod["securityContext"]["seccompProfile"]["type"]),
        (&json!(true), &json!("RuntimeDefault"))
    );
    let own = &pod["containers"][0]["securityContext"];
    assert_eq!(own, &json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } }));
    let budget = yaml("deploy/kubernetes/poddisruptionbudget.yaml");
    let selector = &yaml("deploy/kubernetes/deployment.yaml")["spec"]["selector"];
    assert_eq!((&budget["spec"]["selector"], &budget["spec"]["maxUnavailable"]), (selector, &json!(1)));
}
