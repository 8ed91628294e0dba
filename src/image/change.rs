//! Changes of an image's configuration in the words of a Dockerfile: what `import -c` and `commit -c` take.
//!
//! Source: the Dockerfile reference; which instructions are taken, and that a new `ENTRYPOINT` drops an older `CMD`, is as docker's
//! daemon does it.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::config::RunConfig;

/// A change that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// The first word is no instruction that can change an image.
    #[error("{0} is not a valid change command")]
    Instruction(String),
    /// The instruction's arguments are wrong.
    #[error("{instruction} {why}")]
    Arguments {
        /// The instruction.
        instruction: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Applies changes, one after the other.
///
/// # Errors
/// [`BadChange`] for the first that makes no sense; `config` is half changed then.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), BadChange> {
    let mut cmd_given = false;
    for change in changes {
        let change = change.trim();
        let (word, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
        let rest = rest.trim();
        match word.to_ascii_uppercase().as_str() {
            "CMD" => {
                config.cmd = command(rest, config);
                cmd_given = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = command(rest, config);
                if !cmd_given {
                    config.cmd = None;
                }
            }
            "ENV" => env(config, rest)?,
            "LABEL" => {
                let pairs = pairs("LABEL", rest, &config.env)?;
                config.labels.extend(pairs);
            }
            "EXPOSE" => expose(config, rest)?,
            "VOLUME" => volume(config, rest)?,
            "USER" => config.user = one("USER", rest, &config.env)?,
            "WORKDIR" => {
                let dir = one("WORKDIR", rest, &config.env)?;
                config.working_dir = joined(&config.working_dir, &dir);
            }
            "STOPSIGNAL" => config.stop_signal = one("STOPSIGNAL", rest, &config.env)?,
            "SHELL" => {
                let shell = array(rest).filter(|words| !words.is_empty());
                let words = shell.ok_or_else(|| bad("SHELL", "takes a JSON array: SHELL [\"/bin/sh\", \"-c\"]"))?;
                config.extra.insert("Shell".to_owned(), json!(words));
            }
            "ONBUILD" => onbuild(config, rest)?,
            "HEALTHCHECK" => healthcheck(config, rest)?,
            _ => return Err(BadChange::Instruction(word.to_owned())),
        }
    }
    Ok(())
}

fn bad(instruction: &'static str, why: impl Into<String>) -> BadChange {
    BadChange::Arguments { instruction, why: why.into() }
}

/// A JSON array of strings.
fn array(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// A program with its arguments, or a line for the shell; an empty one takes away what was set before.
fn command(text: &str, config: &RunConfig) -> Option<Vec<String>> {
    if let Some(words) = array(text) {
        return Some(words).filter(|words| !words.is_empty());
    }
    let shell = config.extra.get("Shell").and_then(|shell| serde_json::from_value(shell.clone()).ok());
    let mut words: Vec<String> = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    words.push(text.to_owned());
    Some(words).filter(|_| !text.is_empty())
}

fn env(config: &mut RunConfig, rest: &str) -> Result<(), BadChange> {
    for (key, value) in pairs("ENV", rest, &config.env)? {
        let line = format!("{key}={value}");
        let same = |known: &&mut String| known.split('=').next() == Some(&key);
        match config.env.iter_mut().find(same) {
            Some(known) => *known = line,
            None => config.env.push(line),
        }
    }
    Ok(())
}

/// `K=V K2="V 2"`, or `K a value to the end of the line`. Every value is expanded with the environment before the instruction.
fn pairs(instruction: &'static str, rest: &str, env: &[String]) -> Result<Vec<(String, String)>, BadChange> {
    if rest.is_empty() {
        return Err(bad(instruction, "requires at least one argument"));
    }
    let first = rest.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) =
            rest.split_once(char::is_whitespace).ok_or_else(|| bad(instruction, "must have two arguments"))?;
        return Ok(vec![(key.to_owned(), expand(instruction, value.trim(), env)?)]);
    }
    let mut found = Vec::new();
    for word in words(rest) {
        let (key, value) = word
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| bad(instruction, format!("can't find = in {word:?}. Must be of the form: name=value")))?;
        found.push((expand(instruction, key, env)?, expand(instruction, value, env)?));
    }
    Ok(found)
}

/// Splits at spaces that are neither quoted nor escaped; quotes stay, [`expand`] takes them away.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let word = match (c, quote) {
            (c, None) if c.is_whitespace() => {
                words.push(String::new());
                continue;
            }
            _ => words.last_mut(),
        };
        let Some(word) = word else { continue };
        word.push(c);
        match (c, quote) {
            ('\\', None | Some('"')) => word.extend(chars.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Takes quotes and backslashes away, and puts variables in: `$A`, `${A}`, `${A:-default}`, `${A:+instead}`, `${A:?why not}`, and the same
/// without the colon, which then takes an empty variable as set. Defaults may hold variables in turn.
fn expand(instruction: &'static str, text: &str, env: &[String]) -> Result<String, BadChange> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', Some('\'')) => out.push(c),
            ('\\', Some(_)) => match chars.next() {
                Some(next @ ('"' | '$' | '\\')) => out.push(next),
                next => out.extend([c].into_iter().chain(next)),
            },
            ('\\', None) => out.extend(chars.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('$', None | Some('"')) => {
                if chars.next_if_eq(&'{').is_some() {
                    let inside = enclosed(&mut chars)
                        .ok_or_else(|| bad(instruction, format!("has a ${{ without its end: {text:?}")))?;
                    out.push_str(&braced(instruction, &inside, env)?);
                } else {
                    let mut name = String::new();
                    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                    match name.is_empty() {
                        true => out.push('$'),
                        false => out.push_str(variable(&name, env).unwrap_or_default()),
                    }
                }
            }
            (c, _) => out.push(c),
        }
    }
    match quote {
        None => Ok(out),
        Some(open) => Err(bad(instruction, format!("has a {open} without its end: {text:?}"))),
    }
}

/// What stands before the brace that ends this one, with braces of its own.
fn enclosed(chars: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut depth = 1_u32;
    let mut inside = String::new();
    for c in chars {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(inside);
        }
        inside.push(c);
    }
    None
}

fn braced(instruction: &'static str, inside: &str, env: &[String]) -> Result<String, BadChange> {
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, modifier) = inside.split_at(end);
    let (how, filled) = modifier.strip_prefix(':').map_or((modifier, false), |how| (how, true));
    let set = variable(name, env).filter(|value| !(filled && value.is_empty()));
    let mut how = how.chars();
    match (how.next(), set) {
        _ if name.is_empty() => {}
        (None, set) if modifier.is_empty() => return Ok(set.unwrap_or_default().to_owned()),
        (Some('-' | '?'), Some(value)) => return Ok(value.to_owned()),
        (Some('+'), None) => return Ok(String::new()),
        (Some('-' | '+'), _) => return expand(instruction, how.as_str(), env),
        (Some('?'), None) => {
            let why = expand(instruction, how.as_str(), env)?;
            let why = if why.is_empty() { "not allowed to be unset" } else { &why };
            return Err(bad(instruction, format!("needs a variable: {name}: {why}")));
        }
        _ => {}
    }
    Err(bad(instruction, format!("has a variable that is not understood: ${{{inside}}}")))
}

fn variable<'a>(name: &str, env: &'a [String]) -> Option<&'a str> {
    env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn one(instruction: &'static str, rest: &str, env: &[String]) -> Result<String, BadChange> {
    match expand(instruction, rest, env)? {
        word if word.is_empty() => Err(bad(instruction, "requires exactly one argument")),
        word => Ok(word),
    }
}

/// An absolute path of a working directory below which the next is taken, without `.` and `..`.
fn joined(before: &str, dir: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if dir.starts_with('/') { "" } else { before };
    for part in base.split('/').chain(dir.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn expose(config: &mut RunConfig, rest: &str) -> Result<(), BadChange> {
    let words = words(rest);
    if words.is_empty() {
        return Err(bad("EXPOSE", "requires at least one argument"));
    }
    for word in words {
        let word = expand("EXPOSE", &word, &config.env)?;
        let wrong = || bad("EXPOSE", format!("has an invalid port: {word}"));
        let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        if !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(wrong());
        }
        let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
        let (from, to) = (from.parse::<u16>().map_err(|_| wrong())?, to.parse::<u16>().map_err(|_| wrong())?);
        if from == 0 || from > to {
            return Err(wrong());
        }
        config.exposed_ports.extend((from..=to).map(|port| (format!("{port}/{protocol}"), json!({}))));
    }
    Ok(())
}

fn volume(config: &mut RunConfig, rest: &str) -> Result<(), BadChange> {
    let paths = match array(rest) {
        Some(paths) => paths,
        None => words(rest).iter().map(|word| expand("VOLUME", word, &config.env)).collect::<Result<_, _>>()?,
    };
    if paths.is_empty() || paths.iter().any(|path| path.trim().is_empty()) {
        return Err(bad("VOLUME", "requires at least one argument, and none may be empty"));
    }
    config.volumes.extend(paths.into_iter().map(|path| (path, json!({}))));
    Ok(())
}

fn onbuild(config: &mut RunConfig, rest: &str) -> Result<(), BadChange> {
    let word = rest.split(char::is_whitespace).next().unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "" => return Err(bad("ONBUILD", "requires at least one argument")),
        "ONBUILD" => return Err(bad("ONBUILD", "isn't allowed in ONBUILD")),
        "FROM" | "MAINTAINER" => return Err(bad("ONBUILD", format!("cannot trigger {word}"))),
        _ => {}
    }
    let known = config.extra.remove("OnBuild").and_then(|list| serde_json::from_value(list).ok());
    let mut list: Vec<String> = known.unwrap_or_default();
    list.push(rest.to_owned());
    config.extra.insert("OnBuild".to_owned(), json!(list));
    Ok(())
}

fn healthcheck(config: &mut RunConfig, rest: &str) -> Result<(), BadChange> {
    const NAME: &str = "HEALTHCHECK";
    let mut check: BTreeMap<&str, Value> = BTreeMap::new();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = behind.trim_start();
        let (key, value) = flag.split_once('=').ok_or_else(|| bad(NAME, format!("--{flag} has no value")))?;
        let wrong = || bad(NAME, format!("--{key}={value} is not valid"));
        let field = match key {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => {
                check.insert("Retries", json!(value.parse::<u32>().map_err(|_| wrong())?));
                continue;
            }
            _ => return Err(bad(NAME, format!("has no flag --{key}"))),
        };
        // Docker refuses what is less than a millisecond.
        let nanos = duration(value).filter(|nanos| *nanos == 0 || *nanos >= 1_000_000).ok_or_else(wrong)?;
        check.insert(field, json!(nanos));
    }
    let (kind, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = match (kind.to_ascii_uppercase().as_str(), words.trim()) {
        ("NONE", "") if check.is_empty() => vec!["NONE".to_owned()],
        ("CMD", words) if !words.is_empty() => match array(words) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), words.to_owned()],
        },
        _ => return Err(bad(NAME, "takes NONE, or [--interval=30s ..] CMD and a command")),
    };
    check.insert("Test", json!(test));
    config.extra.insert("Healthcheck".to_owned(), json!(check));
    Ok(())
}

/// A duration in Go's words, `1m30s`, in nanoseconds.
fn duration(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    if text == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    // Beyond three centuries Go itself cannot count.
    (!text.is_empty() && total < 9.2e18).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<RunConfig, BadChange> {
        let mut config = RunConfig { cmd: Some(vec!["old".to_owned()]), ..RunConfig::default() };
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    fn json_of(changes: &[&str]) -> Value {
        serde_json::to_value(changed(changes).unwrap()).unwrap()
    }

    #[test]
    fn every_instruction_of_docker_is_taken() {
        let config = json_of(&[
            r#"CMD ["sh","-c","echo $A"]"#,
            "entrypoint exec top -b",
            r#"ENV A=1 B="two words" C=a\ b D='$A'"#,
            "ENV PATH /bin:${B:-none}:$A:${N:-x}",
            "ENV A=again",
            "EXPOSE 80 53/udp 8000-8002",
            r#"LABEL a="b c" d=e"#,
            "ONBUILD RUN make",
            "USER nobody:$A",
            r#"VOLUME ["/data"]"#,
            "VOLUME /log /tmp",
            "WORKDIR /a/b",
            "WORKDIR ../c",
            "STOPSIGNAL SIGQUIT",
            r#"SHELL ["/bin/bash","-c"]"#,
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 CMD curl localhost",
        ]);
        let expected = json!({
            "User": "nobody:again",
            "ExposedPorts": {"53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}},
            "Env": ["A=again", "B=two words", "C=a b", "D=$A", "PATH=/bin:two words:1:x"],
            "Entrypoint": ["/bin/sh", "-c", "exec top -b"],
            "Cmd": ["sh", "-c", "echo $A"],
            "Volumes": {"/data": {}, "/log": {}, "/tmp": {}},
            "WorkingDir": "/a/c",
            "Labels": {"a": "b c", "d": "e"},
            "StopSignal": "SIGQUIT",
            "Healthcheck": {
                "Test": ["CMD-SHELL", "curl localhost"],
                "Interval": 90_000_000_000_u64, "Timeout": 1_500_000_000_u64, "Retries": 3
            },
            "OnBuild": ["RUN make"],
            "Shell": ["/bin/bash", "-c"],
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn an_entrypoint_drops_the_command_that_was_there_before() {
        assert_eq!(json_of(&["ENTRYPOINT [\"x\"]"]), json!({"Entrypoint": ["x"]}));
        assert_eq!(json_of(&["CMD y", "ENTRYPOINT [\"x\"]"])["Cmd"], json!(["/bin/sh", "-c", "y"]));
        assert_eq!(json_of(&["HEALTHCHECK NONE"])["Healthcheck"], json!({"Test": ["NONE"]}));
        assert_eq!(json_of(&["SHELL [\"/bin/ash\"]", "CMD y"])["Cmd"], json!(["/bin/ash", "y"]));
    }

    #[test]
    fn defaults_of_variables_hold_variables() {
        let env = ["A=a", "E="].map(str::to_owned);
        let expand = |text: &str| expand("ENV", text, &env).map_err(|e| e.to_string());
        for (text, expected) in [
            ("${A:-x}${B:-x}${E:-x}", "axx"),
            ("${A-x}${B-x}${E-x}", "ax"),
            ("${A:+x}${B:+x}${E:+x}", "x"),
            ("${A+x}${B+x}${E+x}", "xx"),
            ("${B:-$A}${B:-${A}}${B:-${C:-${A}b}}", "aaab"),
            ("${A:?no}${E?no}", "a"),
            ("${B:-'$A'}", "$A"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(expand("${B:?is needed}").unwrap_err().contains("B: is needed"));
        for refused in ["${B:?}", "${E:?}", "${A", "${B:-${A}", "${}", "${:-x}", "${A:}", "${A*}"] {
            assert!(expand(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for change in [
            "",
            "RUN x",
            "FROM x",
            "COPY a b",
            "ENV",
            "ENV A",
            "ENV A=1 B",
            "ENV =1",
            "ENV A=\"x",
            "ENV A=${A:?x}",
            "EXPOSE",
            "EXPOSE x",
            "EXPOSE 70000",
            "EXPOSE 0",
            "EXPOSE 9-8",
            "EXPOSE 1/x",
            "USER",
            "WORKDIR",
            "VOLUME",
            "VOLUME []",
            "SHELL sh",
            "ONBUILD",
            "ONBUILD ONBUILD x",
            "ONBUILD FROM x",
            "STOPSIGNAL",
            "HEALTHCHECK",
            "HEALTHCHECK NONE x",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=x CMD y",
            "HEALTHCHECK --interval=1ns CMD y",
            "HEALTHCHECK --what=1 CMD y",
            "LABEL",
        ] {
            assert!(changed(&[change]).is_err(), "{change}");
        }
        assert_eq!(changed(&["RUN x"]).unwrap_err().to_string(), "RUN is not a valid change command");
    }
}
