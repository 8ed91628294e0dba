use std::sync::Arc;
use std::time::Duration;

use super::event::STEPS_MAX;
use super::filter::matches;
use super::hub::LISTENERS_MAX;
use super::summary::Summary;
use super::wire;
use super::wire::Frame;
use super::wire::What;
use super::*;

fn event(op: Op, path: &str) -> Event {
    Event {
        at: (-1, 999_999_999),
        took: 1500,
        op,
        errno: 0,
        pid: 7,
        comm: b"a\n".to_vec(),
        uid: 1000,
        ino: u64::MAX,
        bytes: 12,
        offset: 1 << 40,
        path: path.into(),
        other: b"\xff\x1b".to_vec(),
        steps: vec![Step { layer: 0, said: Said::Miss }, Step { layer: 3, said: Said::Opaque }],
        more: 2,
    }
}

#[test]
fn frames_survive_the_wire_in_any_pieces() {
    let frames = [
        Frame::Started,
        Frame::Event(Box::new(event(Op::Rename, "/a b"))),
        Frame::Lost(u64::MAX),
        Frame::Json(b"{}".to_vec()),
        Frame::Refused("no".to_owned()),
        Frame::End,
    ];
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    let (mut seen, mut from) = (Vec::new(), 0);
    for to in 0..=bytes.len() {
        while let Some((frame, used)) = Frame::take(&bytes[from..to]).unwrap() {
            seen.push(frame);
            from += used;
        }
    }
    assert_eq!(seen, frames);
    assert_eq!(from, bytes.len());
}

#[test]
fn a_hostile_server_is_an_error_and_no_allocation() {
    assert!(Frame::take(&u32::MAX.to_le_bytes()).is_err());
    assert!(Frame::take(&0u32.to_le_bytes()).is_err());
    assert!(Frame::take(b"\x01\0\0\0?").is_err(), "an unknown kind");
    assert!(Frame::take(b"\x02\0\0\0Tx").is_err(), "bytes behind the end");
    let mut good = Vec::new();
    Frame::Event(Box::new(event(Op::Lookup, "/x"))).encode(&mut good);
    // Every byte changed in turn: whatever comes of it, it is no panic.
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let _ = Frame::take(&bad);
        }
    }
}

#[test]
fn a_hostile_caller_is_refused() {
    let ask = |body: &str| {
        let mut bytes = u32::try_from(body.len() + 1).unwrap().to_le_bytes().to_vec();
        bytes.push(b'Q');
        bytes.extend_from_slice(body.as_bytes());
        wire::read_ask(&mut bytes.as_slice())
    };
    assert_eq!(ask(r#"{"version":1,"ask":"stats"}"#).unwrap(), What::Stats);
    assert!(ask(r#"{"version":2,"ask":"other"}"#).unwrap_err().to_string().contains("version 2"));
    for bad in
        ["", "{", r#"{"version":1}"#, r#"{"version":1,"ask":"reboot"}"#, r#"{"version":1,"ask":"trace","ops":-1}"#]
    {
        assert!(ask(bad).is_err(), "{bad}");
    }
    let long = Filter { pattern: Some(vec![b'*'; 2000]), ..Filter::default() };
    let mut bytes = Vec::new();
    wire::send_ask(&mut bytes, What::Trace(long)).unwrap();
    assert!(wire::read_ask(&mut bytes.as_slice()).is_err(), "a pattern that is too long");
    assert!(wire::read_ask(&mut [255, 255, 255, 255, b'Q'].as_slice()).is_err());
    assert!(wire::read_ask(&mut b"GET / HTTP/1.1\r\n\r\n".as_slice()).is_err());
}

#[test]
fn what_was_asked_is_what_is_read() {
    let filter = Filter { pattern: Some(b"*\xff".to_vec()), pid: Some(3), slow: 5, ..Filter::default() };
    for what in [What::Stats, What::Node { path: b"/\xfe".to_vec() }, What::Trace(filter.with_ops(&[Op::CopyUp]))] {
        let mut bytes = Vec::new();
        wire::send_ask(&mut bytes, what.clone()).unwrap();
        assert_eq!(wire::read_ask(&mut bytes.as_slice()).unwrap(), what);
    }
}

#[test]
fn patterns() {
    for (pattern, text) in [
        ("", ""),
        ("*", ""),
        ("*", "a/b"),
        ("a*c", "abbc"),
        ("a*c", "ac"),
        ("*a*b*", "xxaxxbxx"),
        ("?b", "ab"),
        (r"\*", "*"),
        (r"a\?", "a?"),
        ("a**b", "ab"),
    ] {
        assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
    }
    for (pattern, text) in [("", "a"), ("a", ""), ("a*c", "ab"), ("?", ""), (r"\*", "x"), ("*a", "ab"), ("a?", "a")] {
        assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
    }
    // Not exponential: this would not end.
    assert!(!matches(&b"*a".repeat(500), &vec![b'a'; 4096].as_slice()[..400]));
}

#[test]
fn a_listener_gets_what_it_asked_for() {
    let hub = Arc::new(Hub::default());
    assert!(!hub.wanted().has(Op::Open));
    let opens = hub.listen(Filter::default().with_ops(&[Op::Open]), 0).unwrap();
    let etc = Filter { below: Some(b"/etc".to_vec()), ..Filter::default() };
    let etc = hub.listen(etc.with_ops(&[Op::Lookup, Op::Open]), 0).unwrap();
    assert!(hub.wanted().has(Op::Open) && hub.wanted().has(Op::Lookup) && !hub.wanted().has(Op::Read));
    for (op, path) in [(Op::Open, "/etc/passwd"), (Op::Lookup, "/etc"), (Op::Open, "/etcetera"), (Op::Read, "/etc/x")] {
        hub.tell(&Event { other: Vec::new(), ..event(op, path) });
    }
    let paths = |batch: hub::Batch| {
        events(&batch).iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(opens.take(Duration::ZERO, Vec::new())), ["/etc/passwd", "/etcetera"]);
    assert_eq!(paths(etc.take(Duration::ZERO, Vec::new())), ["/etc/passwd", "/etc"]);
    drop(opens);
    assert!(hub.wanted().has(Op::Open));
    drop(etc);
    assert!(!hub.wanted().has(Op::Open), "nobody listens any more");
}

fn events(batch: &hub::Batch) -> Vec<Event> {
    let frames = wire::events(&batch.frames).map(|(frame, pid)| (Frame::take(frame).unwrap().unwrap().0, pid));
    let event = |(frame, pid)| match frame {
        Frame::Event(event) => {
            assert_eq!(event.pid, pid);
            *event
        }
        other => panic!("{other:?}"),
    };
    frames.map(event).collect()
}

#[test]
fn only_the_threads_that_are_wanted_are_sent() {
    let hub = Arc::new(Hub::default());
    let listener = hub.listen(Filter { pid: Some(3), ..Filter::default() }, 0).unwrap();
    for pid in [3, 4, 5, 3] {
        hub.tell(&Event { pid, ..event(Op::Open, &format!("/{pid}")) });
    }
    let batch = listener.take(Duration::ZERO, Vec::new());
    let mut out = Vec::new();
    batch.encode(&mut out, Some(&mut |pid| pid != 4));
    let sent = hub::Batch { frames: out, ..hub::Batch::default() };
    assert_eq!(events(&sent).iter().map(|e| e.pid).collect::<Vec<_>>(), [3, 5, 3]);
}

#[test]
fn a_stalled_listener_loses_events_with_a_count_and_goes_on() {
    let hub = Arc::new(Hub::default());
    let listener = hub.listen(Filter::default(), 0).unwrap();
    for _ in 0..20_000 {
        hub.tell(&event(Op::Open, "/x"));
    }
    let batch = listener.take(Duration::ZERO, Vec::new());
    assert!(batch.count > 0 && batch.lost > 0);
    assert_eq!(events(&batch).len(), batch.count);
    assert_eq!(batch.count as u64 + batch.lost, 20_000);
    hub.tell(&event(Op::Read, "/x"));
    let batch = listener.take(Duration::ZERO, Vec::new());
    assert_eq!((batch.count, batch.lost), (1, 0));
}

#[test]
fn listeners_are_limited_do_not_hear_themselves_and_hear_the_end() {
    let hub = Arc::new(Hub::default());
    let all: Vec<_> = (0..LISTENERS_MAX).map(|_| hub.listen(Filter::default(), 7).unwrap()).collect();
    assert!(hub.listen(Filter::default(), 7).is_none(), "one too many");
    hub.tell(&event(Op::Open, "/x"));
    assert!(all[0].take(Duration::ZERO, Vec::new()).frames.is_empty(), "its own operation");
    hub.end();
    assert!(all[0].take(Duration::from_secs(60), Vec::new()).ended);
    drop(all);
    assert!(hub.listen(Filter::default(), 7).is_none(), "nothing comes any more");
}

#[test]
fn a_summary() {
    let mut summary = Summary::default();
    for took in 1..=100u64 {
        summary.add(&Event { took: took * 1000, ..event(Op::Read, "/r") });
    }
    summary.add(&Event { errno: 5, ..event(Op::Read, "/r") });
    summary.add(&Event { errno: event::ENOENT, ..event(Op::Lookup, "/no") });
    summary.add(&Event { bytes: 5, ..event(Op::CopyUp, "/small") });
    summary.add(&Event { bytes: 500, ..event(Op::CopyUp, "/large") });
    let rows = summary.rows();
    assert_eq!((rows[0].op, rows[0].count, rows[0].errors), (Op::Read, 101, 1));
    assert_eq!(rows[0].total, 5_050_000 + 1500);
    assert!((47_000..=53_000).contains(&rows[0].p50), "{}", rows[0].p50);
    assert!((94_000..=104_000).contains(&rows[0].p99), "{}", rows[0].p99);
    assert_eq!(rows.iter().find(|r| r.op == Op::Lookup).unwrap().errors, 0, "a miss is no failure");
    assert_eq!(summary.copied(), [(&b"/large"[..], 1, 500), (b"/small", 1, 5)]);
    assert_eq!(summary.missing(), [(&b"/no"[..], 1)]);
    for took in [0, 1, 2, 15, 16, 17, u64::MAX] {
        summary.add(&Event { took, ..event(Op::Mkdir, "/") });
    }
}

#[test]
fn a_long_walk_is_cut_and_paths_too() {
    let step = Step { layer: 1, said: Said::Miss };
    let long = Event { steps: vec![step; 1000], path: vec![b'a'; 9000], ..event(Op::Lookup, "") };
    let mut bytes = Vec::new();
    Frame::Event(Box::new(long)).encode(&mut bytes);
    let Some((Frame::Event(seen), _)) = Frame::take(&bytes).unwrap() else { panic!() };
    assert_eq!((seen.steps.len(), seen.path.len()), (STEPS_MAX, 4096));
}

/// For `scripts/bench trace`, with optimisation: what a mount does for each request while nobody listens, from two threads at once.
#[test]
#[ignore = "a measure, not a test"]
fn cost_for_each_request() {
    const ROUNDS: u32 = 20_000_000;
    let hub = Arc::new(Hub::default());
    let work = |hub: Arc<Hub>| {
        let start = crate::env::monotonic();
        for n in 0..ROUNDS {
            let op = if n % 2 == 0 { Op::Lookup } else { Op::Getattr };
            hub.count(std::hint::black_box(op));
            assert!(!hub.wanted().has(std::hint::black_box(op)));
        }
        start.elapsed()
    };
    let other = std::thread::spawn({
        let hub = hub.clone();
        move || work(hub)
    });
    let took = work(hub).max(other.join().unwrap());
    println!("{:.1} ns", took.as_nanos() as f64 / f64::from(ROUNDS));
}
