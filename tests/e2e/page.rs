//! The page of the admin listener in a real browser: what it shows of traffic, failures and limits, what its policy forbids, and
//! how it looks where there is no script, no answer, or little room.

use crate::harness::chromium::Browser;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::sim::Sim;
use crate::harness::{chat, streamed, until};
use serde_json::json;
use tidegate::simulate::seen::sha256_hex;

/// Names that would be markup in a page that pastes them into its document.
const ROUTE: &str = "<script>window.pasted=1</script>";
const MODEL: &str = "<img src=x onerror=window.pasted=2>";

fn config(sim: &Sim, more: &str) -> String {
    let key = sha256_hex(b"tg-red");
    format!(
        "server: {{ drain_delay: 1h }}\n\
         providers: {{ sim: {} }}\n\
         routes:\n  \"{ROUTE}\": {{ targets: [ {{ provider: sim, model: \"{MODEL}\" }} ] }}\n  \
         spare: {{ targets: [ {{ provider: sim, model: \"m+status=503\" }} ], fallback: [ {{ provider: sim, model: m }} ], ejection: {{ failures: 1 }} }}\n  \
         down: {{ targets: [ {{ provider: sim, model: \"m+status=500\" }} ], retry: {{ attempts: 1 }} }}\n{more}\
         teams: {{ red: {{ limits: [ {{ requests: 4, per: 30d }} ], keys: [ {{ id: red1, sha256: \"{key}\" }} ] }} }}\n",
        sim.provider()
    )
}

/// A request of each kind: answered, streamed, served by the fall-back, failed, refused by a limit, without a key.
async fn traffic(gateway: &Gateway) {
    let red = [("authorization", "Bearer tg-red")];
    let statuses = [
        gateway.chat_as(&red, &chat(ROUTE)).await.status(),
        gateway.chat_as(&red, &streamed(ROUTE)).await.status(),
        gateway.chat_as(&red, &chat("spare")).await.status(),
        gateway.chat_as(&red, &chat("down")).await.status(),
        gateway.chat_as(&red, &chat(ROUTE)).await.status(),
        gateway.chat_as(&[], &chat(ROUTE)).await.status(),
    ];
    assert_eq!(statuses, [200, 200, 200, 502, 429, 401]);
    // The metrics of an answer follow its last byte.
    let refused = "tidegate_auth_failures_total{reason=\"missing\"}";
    until("the last one to be counted", async || (gateway.metric(refused).await == 1.0).then_some(())).await;
}

/// An expression: whether a part of the page shows a text.
fn shows(id: &str, text: &str) -> String {
    format!("document.getElementById({}).innerText.includes({})", json!(id), json!(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_traffic_failures_and_limits_as_text_and_asks_nobody_else() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, "")).await;
    traffic(&gateway).await;
    let Some(mut browser) = Browser::start().await else { return };
    let url = format!("http://{}/", gateway.admin);
    browser.open(&url).await;
    browser.until(&shows("state", "serving")).await;
    for (id, text) in [
        ("routes", ROUTE),
        ("routes", &format!("sim/{MODEL}")),
        ("routes", "First token, p95"),
        ("routes", "2 × 4xx, 0 × 5xx"),
        ("routes", "no route"),
        ("routes", "0 × 4xx, 1 × 5xx"),
        ("routes", "ejected for"),
        ("routes", "healthy"),
        ("failures", "limited: requests of the team"),
        ("failures", "server_error"),
        ("failures", "missing"),
        ("failures", "502"),
        ("limits", "team red"),
        ("limits", "requests per 30 days"),
        ("limits", "0 of 4 left"),
        ("configuration", &sha256_hex(&std::fs::read(&gateway.path).unwrap())),
        ("configuration", "0 applied, 0 rejected"),
    ] {
        assert_eq!(browser.evaluate(&shows(id, text)).await, true, "{id}: {text}\n{}", browser.evaluate("document.body.innerText").await);
    }
    // Names are text.
    assert_eq!(
        browser.evaluate("[document.scripts.length, document.images.length, typeof window.pasted]").await,
        json!([1, 0, "undefined"])
    );
    // Who cannot see lines reads them; tables have headings.
    let labels = browser.evaluate("[...document.querySelectorAll('#routes svg[role=img]')].map(svg => svg.ariaLabel).join()").await;
    for label in [format!("{ROUTE}: 2 requests, "), format!("{ROUTE}: time to the first token, "), "down: 1 error, ".to_owned()] {
        assert!(labels.as_str().unwrap().contains(&label), "{label}: {labels}");
    }
    let bare = "[...document.querySelectorAll('table')].filter(t => !t.querySelector('thead th[scope=col]') || !t.ariaLabel).length";
    assert_eq!(browser.evaluate(bare).await, 0);
    assert_eq!(browser.evaluate("document.querySelector('#limits meter').value").await, 1);

    // New failures appear by themselves.
    assert_eq!(gateway.chat_as(&[("authorization", "Bearer wrong")], &chat("down")).await.status(), 401);
    browser.until(&shows("failures", "unknown")).await;
    // A reload is seen, and routes that are gone are not.
    let changed = gateway.text(&config(&sim, "  added: { targets: [ { provider: sim, model: m } ] }\n").replace("  down:", "  up:"));
    std::fs::write(&gateway.path, &changed).unwrap();
    browser.until(&shows("configuration", "1 applied")).await;
    browser.until("document.getElementById('idle')?.textContent.includes('added') === true").await;
    assert_eq!(browser.evaluate(&shows("configuration", &sha256_hex(changed.as_bytes()))).await, true);
    let names = "[...document.querySelectorAll('#routes tbody th')].map(th => th.textContent)";
    let names = browser.evaluate(names).await;
    let names: Vec<_> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"up") && !names.contains(&"down"), "{names:?}");

    // It asked its own listener only, and its policy had nothing to forbid.
    let asked: Vec<_> = browser.events("Network.requestWillBeSent").iter().map(|event| event["request"]["url"].clone()).collect();
    assert!(
        asked.len() > 6
            && asked.iter().all(|asked| asked.as_str().unwrap().starts_with(&url) || asked.as_str().unwrap().starts_with("data:")),
        "{asked:?}"
    );
    for name in ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"] {
        assert!(browser.events(name).is_empty(), "{:?}", browser.events(name));
    }
    // The policy is in force: neither markup from a string, nor an inline handler, nor another origin.
    let markup = "try { document.body.innerHTML = '<b>'; 'pasted' } catch (e) { e.name }";
    assert_eq!(browser.evaluate(markup).await, "TypeError");
    let elsewhere = format!("fetch('http://{}/v1/models').then(() => 'answered', (e) => e.name)", gateway.listen);
    assert_eq!(browser.evaluate(&elsewhere).await, "TypeError");
    let framed =
        "const f = document.createElement('iframe'); f.src = '/status'; document.body.append(f); f.contentDocument?.body?.innerText ?? ''";
    assert_eq!(browser.evaluate(framed).await, "");
    assert!(!browser.events("Log.entryAdded").is_empty(), "violations are noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_fits_a_phone_and_the_dark_and_says_what_is_old() {
    let sim = Sim::start().await;
    let mut gateway = Gateway::start(&config(&sim, "")).await;
    traffic(&gateway).await;
    let Some(mut browser) = Browser::start().await else { return };
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone).await;
    browser.open(&format!("http://{}/", gateway.admin)).await;
    browser.until(&shows("failures", "server_error")).await;
    let wide =
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 360).map(e => e.outerHTML.slice(0, 200))";
    assert_eq!(browser.evaluate(wide).await, json!([]));
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth").await, 360);
    let back = "getComputedStyle(document.body).backgroundColor";
    let mut colours = Vec::new();
    for scheme in ["light", "dark"] {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", media).await;
        colours.push(browser.evaluate(back).await);
    }
    assert_ne!(colours[0], colours[1]);
    // A process that drains says so; once it is gone, the page says that too, and keeps what it had.
    gateway.signal("TERM").await;
    browser.until(&shows("state", "draining")).await;
    assert_eq!(browser.evaluate("document.getElementById('stale').hidden").await, true);
    gateway.signal("INT").await;
    gateway.exit().await;
    browser.until(&shows("stale", "the data shown is of")).await;
    assert_eq!(browser.evaluate("document.body.className").await, "stale");
    assert_eq!(browser.evaluate(&shows("failures", "server_error")).await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scripts_the_page_says_where_its_data_is() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, "")).await;
    let Some(mut browser) = Browser::start().await else { return };
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.open(&format!("http://{}/", gateway.admin)).await;
    assert_eq!(browser.evaluate("document.body.innerText.includes('needs JavaScript')").await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_has_a_strict_policy_and_the_history_no_content() {
    let sim = Sim::start().await;
    let gateway = Setup::new(&config(&sim, "")).start().await;
    traffic(&gateway).await;
    let page = gateway.page("/").await;
    assert_eq!((page.status(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for directive in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for path in ["/", "/status", "/status/history", "/limits", "/metrics", "/nothing"] {
        let page = gateway.page(path).await;
        assert_eq!((page.header("x-content-type-options"), page.header("cache-control")), ("nosniff", "no-store"), "{path}");
    }
    let history = gateway.page("/status/history").await.json();
    let failures = history["failures"].as_array().unwrap();
    let seen: Vec<_> = failures.iter().map(|one| (one["status"].as_u64().unwrap(), one["reason"].as_str().unwrap())).collect();
    assert_eq!(seen, [(401, "missing"), (429, "limited"), (502, "server_error")]);
    assert_eq!((&failures[1]["team"], &failures[1]["route"], &failures[1]["limit_scope"]), (&json!("red"), &json!(null), &json!("team")));
    assert_eq!((&failures[2]["route"], &failures[2]["limit_scope"]), (&json!("down"), &json!(null)));
    assert_eq!((&failures[2]["provider"], &failures[2]["count"]), (&json!("sim"), &json!(1)));
    let text = history.to_string();
    assert!(!text.contains("hello there") && !text.contains("tg-red"), "{text}");
}
