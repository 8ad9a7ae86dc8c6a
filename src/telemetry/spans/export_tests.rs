//! Batches, tries and counts on a paused clock, against a scripted collector.
use super::super::otlp::{ExportRequest, PartialSuccess};
use super::super::record::{Http, Origin};
use super::*;
use crate::account::Ledger;
use crate::egress::Egress;
use crate::telemetry::access::AccessLine;
use crate::telemetry::trace::Trace;
use http::{HeaderMap, HeaderName};
use std::collections::VecDeque;

/// A collector with these answers, then 200; and what was posted, with its time and its spans.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Result<Answer, Reason>>>>,
    posts: Arc<Mutex<Vec<(Instant, usize)>>>,
    /// Whether it never answers.
    hangs: bool,
}

impl Transport for Scripted {
    async fn post(&self, body: Bytes) -> Result<Answer, Reason> {
        let request = ExportRequest::decode(&*body).unwrap();
        let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
        self.posts.lock().push((Instant::now(), spans));
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.answers.lock().pop_front().unwrap_or_else(|| Ok(answer(200, &[], Vec::new())))
    }

    fn compression(&self) -> Compression {
        Compression::None
    }

    fn shown(&self) -> &str {
        "scripted"
    }
}

fn answer(status: u16, headers: &[(&'static str, &'static str)], body: Vec<u8>) -> Answer {
    let pair = |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    Answer { status, headers: HeaderMap::from_iter(headers.iter().map(pair)), body: body.into() }
}

/// A request with one span.
fn request() -> Box<FinishedRequest> {
    let ledger = Ledger::new();
    let http = Http { method: "POST", scheme: "http", version: "1.1" };
    let trace = Trace { trace_id: 1, parent_id: 0, span_id: 2, flags: 1 };
    let origin = Origin { trace, trace_state: None, arrived: Duration::ZERO, http, operation: None, model: None };
    Box::new(FinishedRequest::new(&AccessLine::example(&ledger), origin, Vec::new()))
}

fn counters() -> SpanCounters {
    let counter = || IntCounter::new("x", "x").unwrap();
    SpanCounters { exported: counter(), dropped: SpanLoss::ALL.iter().map(|_| counter()).collect() }
}

/// Exported, and dropped by reason.
fn counted(counters: &SpanCounters) -> (u64, Vec<(&'static str, u64)>) {
    let dropped = SpanLoss::ALL.iter().zip(&counters.dropped).map(|(reason, counter)| (reason.name(), counter.get()));
    (counters.exported.get(), dropped.filter(|(_, count)| *count > 0).collect())
}

/// A tracer whose worker posts to a script.
struct Rig {
    tracer: Tracer,
    script: Scripted,
    worker: Option<Worker<Scripted>>,
    _end: blocking::SyncSender<()>,
}

fn rig(answers: Vec<Result<Answer, Reason>>) -> Rig {
    let (queue, received) = mpsc::channel(QUEUE);
    let (end, ended) = blocking::sync_channel(1);
    let (stop, counters) = (Arc::<Stop>::default(), counters());
    let settings = Tracing {
        uri: "http://h/v1/traces".parse().unwrap(),
        shown: "http://h".into(),
        headers: Vec::new(),
        sampling: Sampling::of_millionths(1_000_000),
        service_name: "tidegate".into(),
        compression: Compression::None,
        egress: Egress::Direct,
    };
    let script = Scripted { answers: Arc::new(Mutex::new(answers.into())), ..Scripted::default() };
    let resource = encode::resource("tidegate", Uuid::nil());
    let (collector, counted) = (script.clone(), counters.clone());
    let worker = Worker {
        collector,
        resource,
        queue: received,
        stop: stop.clone(),
        counters: counted,
        until: None,
        partial: Throttle::new(),
        failing: false,
    };
    Rig { tracer: Tracer { settings, queue, counters, stop, ended: Mutex::new(ended) }, script, worker: Some(worker), _end: end }
}

impl Rig {
    /// Starts the worker.
    fn start(&mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(self.worker.take().unwrap().run())
    }

    /// Seconds of the posts since `began`, and their spans.
    fn posts(&self, began: Instant) -> Vec<(f64, usize)> {
        self.script.posts.lock().iter().map(|(at, spans)| ((*at - began).as_secs_f64(), *spans)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_exported_when_its_first_request_has_waited_long_enough() {
    let (mut rig, began) = (rig(vec![]), Instant::now());
    rig.start();
    sleep(Duration::from_secs(60)).await;
    rig.tracer.record(request());
    sleep(Duration::from_secs(4)).await;
    rig.tracer.record(request());
    sleep(Duration::from_millis(900)).await;
    assert_eq!(rig.posts(began), []);
    sleep(Duration::from_millis(200)).await;
    let posts = rig.posts(began);
    assert!(matches!(posts[..], [(at, 2)] if (64.999..65.01).contains(&at)), "{posts:?}");
    assert_eq!(counted(&rig.tracer.counters), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_exported_at_once_and_a_full_queue_drops() {
    let (mut rig, began) = (rig(vec![]), Instant::now());
    (0..QUEUE + 3).for_each(|_| rig.tracer.record(request()));
    assert_eq!(counted(&rig.tracer.counters), (0, vec![("queue_full", 3)]));
    rig.start();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.posts(began).iter().map(|(_, spans)| *spans).collect::<Vec<_>>(), [MAX_BATCH; QUEUE / MAX_BATCH]);
    assert_eq!(counted(&rig.tracer.counters).0, QUEUE as u64);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_accepted_later_is_tried_again_after_a_wait() {
    let later = |status| Ok(answer(status, &[], vec![]));
    let (mut rig, began) =
        (rig(vec![Err("could not connect".into()), later(502), Ok(answer(429, &[("retry-after", "7")], vec![]))]), Instant::now());
    rig.tracer.record(request());
    rig.start();
    sleep(Duration::from_secs(60)).await;
    let posts = rig.posts(began);
    let waits: Vec<f64> = posts.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(
        matches!(waits[..], [a, b, c] if (0.499..1.01).contains(&a) && (0.999..2.01).contains(&b) && (6.999..7.01).contains(&c)),
        "{waits:?}"
    );
    assert_eq!(counted(&rig.tracer.counters), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_accepted_is_counted_by_its_reason() {
    let partial = ExportResponse { partial_success: Some(PartialSuccess { rejected_spans: 1, error_message: "too old".into() }) };
    for (answers, posts, result) in [
        (vec![Ok(answer(400, &[], vec![]))], 1, (0, vec![("rejected", 2)])),
        (vec![Ok(answer(500, &[], vec![]))], 1, (0, vec![("rejected", 2)])),
        (vec![Ok(answer(302, &[], vec![]))], 1, (0, vec![("rejected", 2)])),
        (vec![Ok(answer(200, &[], partial.encode_to_vec()))], 1, (1, vec![("rejected", 1)])),
        (vec![Ok(answer(200, &[], b"\xff\xff junk".to_vec()))], 1, (2, vec![])),
        ((0..MAX_TRIES).map(|_| Ok(answer(503, &[], vec![]))).collect(), MAX_TRIES as usize, (0, vec![("unavailable", 2)])),
        ((0..MAX_TRIES).map(|_| Ok(answer(503, &[("retry-after", "86400")], vec![]))).collect(), 5, (0, vec![("unavailable", 2)])),
    ] {
        let (mut rig, began) = (rig(answers), Instant::now());
        (0..2).for_each(|_| rig.tracer.record(request()));
        rig.start();
        sleep(Duration::from_secs(600)).await;
        assert_eq!((rig.posts(began).len(), counted(&rig.tracer.counters)), (posts, result));
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_process_everything_is_tried_once_more_and_nothing_waits() {
    let away = || Err("could not connect".into());
    let (mut rig, began) = (rig(vec![away(), away()]), Instant::now());
    rig.tracer.record(request());
    let worker = rig.start();
    sleep(EXPORT_INTERVAL + Duration::from_millis(1)).await;
    assert_eq!(rig.posts(began).len(), 1, "the first try has failed");
    rig.tracer.record(request());
    rig.tracer.stop(Duration::from_secs(1));
    worker.await.unwrap();
    let posts = rig.posts(began);
    assert!(posts.len() == 3 && posts[2].0 - posts[0].0 < 0.01, "{posts:?}");
    rig.tracer.record(request());
    assert_eq!(counted(&rig.tracer.counters), (1, vec![("unavailable", 1), ("shutdown", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_tracer_that_a_reload_has_replaced_exports_what_it_has() {
    let (mut rig, began) = (rig(vec![]), Instant::now());
    let worker = rig.start();
    rig.tracer.record(request());
    let Rig { tracer, script, .. } = rig;
    drop(tracer);
    worker.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(script.posts.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_never_answers_does_not_outlast_the_process_and_what_is_lost_is_counted() {
    let (mut rig, began) = (rig(vec![]), Instant::now());
    rig.worker.as_mut().unwrap().collector.hangs = true;
    rig.tracer.record(request());
    let worker = rig.start();
    sleep(EXPORT_INTERVAL + Duration::from_millis(1)).await;
    assert_eq!(rig.posts(began).len(), 1, "a post is under way");
    (0..MAX_BATCH + 1).for_each(|_| rig.tracer.record(request()));
    rig.tracer.stop(Duration::from_secs(1));
    worker.await.unwrap();
    assert!(began.elapsed() < EXPORT_INTERVAL + Duration::from_millis(1100), "{:?}", began.elapsed());
    assert_eq!(counted(&rig.tracer.counters), (0, vec![("shutdown", 2 + MAX_BATCH as u64)]));
}

#[test]
fn a_flush_does_not_wait_for_another() {
    let rig = rig(vec![]);
    let _other = rig.tracer.ended.lock();
    rig.tracer.flush(Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn rejected_spans_are_no_failure_of_the_export() {
    let partial = ExportResponse { partial_success: Some(PartialSuccess { rejected_spans: 1, error_message: "too old".into() }) };
    let mut rig = rig(vec![Ok(answer(200, &[], partial.encode_to_vec()))]);
    let mut worker = rig.worker.take().unwrap();
    worker.export(&[*request(), *request()]).await;
    assert!(!worker.failing && worker.partial.admit(system::now()).is_none(), "it has a line of its own");
    assert_eq!(counted(&rig.tracer.counters), (1, vec![("rejected", 1)]));
}

#[test]
fn a_refusal_says_what_the_collector_says() {
    let status = |message: String| RpcStatus { message }.encode_to_vec();
    let protobuf = [("content-type", "application/x-protobuf")];
    let of = |status, headers: &[_], body| match Verdict::of(Ok(answer(status, headers, body))) {
        Verdict::Refused(why) | Verdict::Later(why, _) => why,
        accepted => panic!("{accepted:?}"),
    };
    assert_eq!(of(400, &protobuf, status("no tenant".into())), "status 400: no tenant");
    assert_eq!(of(503, &protobuf, status("busy".into())), "status 503: busy");
    assert!(of(400, &protobuf, status("x".repeat(5000))).len() <= "status 400: ".len() + MAX_MESSAGE);
    let secret = of(401, &protobuf, status("bad key sk-abcdefghijklmnopqrstuvwxyz012345".into()));
    assert!(!secret.contains("abcdef"), "{secret}");
    for (headers, body) in [(&[][..], status("no tenant".into())), (&protobuf, b"\xff\xff junk".to_vec()), (&protobuf, Vec::new())] {
        assert_eq!(of(400, headers, body), "status 400");
    }
}

#[test]
fn a_compressed_batch_is_the_same_batch() {
    use std::io::Read;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*gzip(b"some spans").unwrap()).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, b"some spans");
}

#[test]
fn a_wait_is_at_least_half_of_it() {
    for (random, least, most) in [(0, 500, 500), (u64::MAX, 999, 1000)] {
        assert!((least..=most).contains(&jittered(Duration::from_secs(1), random).as_millis()));
    }
}
