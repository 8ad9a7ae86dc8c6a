//! Runs one target: every input of the corpus as it is, then mutations of them, each from a seed of its own.

use crate::mutate::Mutator;
use fastrand::Rng;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often each input of the corpus is tried as it is, each time with other choices.
const PLAIN: u64 = 8;
/// No case takes a second; this only ends one that never would.
const HANG: Duration = Duration::from_secs(60);

/// A number out of the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, {text:?} is none")))
}

fn seed_of(name: &str, base: u64, case: u64) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = base.to_le_bytes().into_iter().chain(case.to_le_bytes());
    name.bytes().chain(bytes).fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Runs `check` on all of `corpus`, then on `cases` mutations of it (a percentage of them where
/// `TIDEGATE_FUZZ_ITERATIONS` says so).
///
/// # Panics
/// As `check`; the message says how to repeat the case, and its input is kept in a file.
pub fn fuzz(name: &str, corpus: &[Vec<u8>], mutator: Mutator, cases: u64, check: impl Fn(&[u8], &mut Rng) + Sync) {
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let base = setting("TIDEGATE_FUZZ_SEED").unwrap_or(1);
    let cases = (cases * setting("TIDEGATE_FUZZ_ITERATIONS").unwrap_or(100)).div_ceil(100);
    let plain = corpus.len() as u64 * PLAIN;
    let range = match setting("TIDEGATE_FUZZ_CASE") {
        Some(case) => case..case + 1,
        None => 0..plain + cases,
    };
    let now = AtomicU64::new(range.start);
    let (alive, watch) = channel::<()>();
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, || {
            let _alive = alive;
            for case in range {
                now.store(case, Ordering::Relaxed);
                let mut rng = Rng::with_seed(seed_of(name, base, case));
                let input = match corpus.get((case / PLAIN) as usize) {
                    Some(input) => input.clone(),
                    None => mutator.mutate(&mut rng, corpus),
                };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input, &mut rng))) {
                    report(name, base, case, &input);
                    resume_unwind(panic);
                }
            }
        });
        let worker = worker.unwrap();
        loop {
            let before = now.load(Ordering::Relaxed);
            match watch.recv_timeout(HANG) {
                Err(RecvTimeoutError::Timeout) if now.load(Ordering::Relaxed) == before => {
                    eprintln!("{name} hangs: TIDEGATE_FUZZ_SEED={base} TIDEGATE_FUZZ_CASE={before}");
                    std::process::exit(1); // a thread cannot be ended
                }
                Err(RecvTimeoutError::Timeout) => {}
                _ => break,
            }
        }
        if let Err(panic) = worker.join() {
            resume_unwind(panic);
        }
    });
}

fn report(name: &str, base: u64, case: u64, input: &[u8]) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("fuzz-{}-{base}-{case}", name.replace('/', "-")));
    let kept = std::fs::File::create(&file).and_then(|mut file| file.write_all(input)).is_ok();
    let shown: String = String::from_utf8_lossy(input).chars().take(2000).collect();
    eprintln!("{name} failed; to repeat: TIDEGATE_FUZZ_SEED={base} TIDEGATE_FUZZ_CASE={case}");
    eprintln!("its input{}: {shown:?}", if kept { format!(" ({})", file.display()) } else { String::new() });
}

/// Cuts bytes into pieces: one by one, or in a few places.
pub fn pieces<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    if bytes.len() < 4096 && rng.u8(..) < 40 {
        return bytes.chunks(1).collect();
    }
    let mut cuts: Vec<usize> = (0..rng.usize(1..12)).map(|_| rng.usize(..=bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}
