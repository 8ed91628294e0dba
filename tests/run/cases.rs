//! What a well-behaved container sees, and what the host sees of it.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use super::Case;
use super::fixture::Rootfs;
use super::fixture::check;
use super::fixture::ends_with;
use super::fixture::eventually;
use super::fixture::same;

pub const ALL: &[Case] = &[
    ("exit codes are passed on", exit_codes),
    ("a command that is not there is 127", not_found),
    ("a command that cannot be executed is 126", not_executable),
    ("a missing interpreter is told", missing_interpreter),
    ("environment: defaults, overrides, HOME", environment),
    ("user by name, number, with groups", users),
    ("working directory is made", workdir),
    ("the command is process 1 and sees only its own", pid_one),
    ("file descriptors are 0, 1, 2", descriptors),
    ("mounts of the host stay as they were", host_mounts),
    ("capabilities are docker's default", capabilities),
    ("masked and read-only paths", masked),
    ("/dev has what it needs and harms nothing", devices),
    ("/etc files are the container's", etc_files),
    ("read-only root", read_only),
    ("bind mounts", binds),
    ("resource limits are clamped", limits),
    ("standard input only when asked for", stdin),
    ("signals are forwarded", signals),
    ("killed by a signal is 128 + n", killed),
    ("the container dies with its runner", runner_killed),
    ("the command runs only after release", held),
    ("signals are at their defaults", signal_state),
    ("a second process enters", enter),
];

type Outcome = Result<(), String>;

fn exit_codes() -> Outcome {
    let root = Rootfs::new();
    same(root.run(&[], &["true"]).status.code(), Some(0))?;
    same(root.run(&[], &["sh", "-c", "exit 3"]).status.code(), Some(3))?;
    same(root.run(&[], &["sh", "-c", "exit 255"]).status.code(), Some(255))
}

fn not_found() -> Outcome {
    let root = Rootfs::new();
    ends_with(&root.run(&[], &["foo"]), 127, "exec: \"foo\": executable file not found in $PATH")?;
    ends_with(&root.run(&[], &["/bin/foo"]), 127, "exec: \"/bin/foo\": no such file or directory")
}

fn not_executable() -> Outcome {
    let root = Rootfs::new();
    fs::write(root.dir.join("bin/data"), "x").unwrap();
    ends_with(&root.run(&[], &["data"]), 126, "exec: \"data\": permission denied")?;
    ends_with(&root.run(&[], &["/etc"]), 126, "is a directory")?;
    make_script(&root, "empty", "");
    ends_with(&root.run(&[], &["empty"]), 126, "exec format error")
}

fn make_script(root: &Rootfs, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = root.dir.join("bin").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn missing_interpreter() -> Outcome {
    let root = Rootfs::new();
    make_script(&root, "script", "#!/bin/nothing\n");
    ends_with(&root.run(&[], &["script"]), 127, "interpreter")?;
    make_script(&root, "script", "#!/bin/sh\nexit 9\n");
    same(root.run(&[], &["script"]).status.code(), Some(9))
}

fn environment() -> Outcome {
    let root = Rootfs::new();
    let env = root.sh(&["-e", "A=b c", "-e", "HOSTNAME"], "env | sort")?;
    for line in ["A=b c", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] {
        check(env.lines().any(|l| l == line), format!("no {line} in {env}"))?;
    }
    check(!env.contains("HOSTNAME") && !env.contains("CARGO"), &env)?;
    same(root.sh(&["-u", "ann"], "echo $HOME")?.as_str(), "/home/ann\n")
}

fn users() -> Outcome {
    let root = Rootfs::new();
    let ids = "echo $(id -u) $(id -g) $(id -G)";
    same(root.sh(&["-u", "ann"], ids)?.as_str(), "1000 1000 1000 29\n")?;
    same(root.sh(&["-u", "ann:audio"], ids)?.as_str(), "1000 29 29\n")?;
    same(root.sh(&["-u", "4242"], ids)?.as_str(), "4242 0 0\n")?;
    same(root.sh(&["-u", "7:8"], ids)?.as_str(), "7 8 8\n")?;
    ends_with(&root.run(&["-u", "bob"], &["true"]), 125, "unable to find user bob")
}

fn workdir() -> Outcome {
    let root = Rootfs::new();
    same(root.sh(&[], "pwd")?.as_str(), "/\n")?;
    same(root.sh(&["-w", "/srv/new/dir"], "pwd")?.as_str(), "/srv/new/dir\n")
}

fn pid_one() -> Outcome {
    let root = Rootfs::new();
    same(root.sh(&[], "echo $$; echo /proc/[0-9]*; hostname")?.as_str(), "1\n/proc/1\nbox\n")
}

fn descriptors() -> Outcome {
    let root = Rootfs::new();
    // Asked one by one: to list the directory is to open one more.
    let script = "i=0; while test $i -lt 64; do test -e /proc/1/fd/$i && echo $i; i=$((i+1)); done; true";
    // The shell around the runner leaves it descriptors without close-on-exec, one of them a directory of the host.
    let leak = "exec 3</etc 7>/dev/null 9</etc/hostname; exec \"$@\"";
    let runner = root.runner(&[], &["sh", "-c", script]);
    let out =
        Command::new("sh").args(["-c", leak, "sh"]).arg(runner.get_program()).args(runner.get_args()).output().unwrap();
    same(String::from_utf8_lossy(&out.stdout).as_ref(), "0\n1\n2\n")
}

fn host_mounts() -> Outcome {
    let root = Rootfs::new();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let inside = root.sh(&["-v", "/usr:/mnt/usr"], "cat /proc/self/mountinfo")?;
    same(mounts(), before)?;
    check(inside.lines().all(|l| !l.contains("shared:") && !l.contains("master:")), &inside)?;
    check(
        inside
            .lines()
            .all(|l| !l.contains("ext4") || l.contains(" / ") || l.contains("/mnt/usr") || l.contains("mica-run")),
        &inside,
    )
}

fn capabilities() -> Outcome {
    let root = Rootfs::new();
    let status = root.sh(&[], "cat /proc/self/status")?;
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("none").trim().to_owned();
    same(line("CapInh:"), "0000000000000000".to_owned())?;
    same(line("CapPrm:"), "00000000a80425fb".to_owned())?;
    same(line("CapEff:"), "00000000a80425fb".to_owned())?;
    same(line("CapBnd:"), "00000000a80425fb".to_owned())?;
    same(line("NoNewPrivs:"), "0".to_owned())?;
    let status = root.sh(&["-u", "ann"], "cat /proc/self/status")?;
    check(status.contains("CapEff:\t0000000000000000") && status.contains("CapBnd:\t00000000a80425fb"), &status)
}

fn masked() -> Outcome {
    let root = Rootfs::new();
    same(
        root.sh(&[], "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware")?.as_str(),
        "0\n",
    )?;
    let writes = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/x; do (echo h > $f) 2>/dev/null && echo $f; done; true";
    same(root.sh(&[], writes)?.as_str(), "")?;
    ends_with(&root.run(&[], &["mount", "-t", "tmpfs", "x", "/tmp"]), 1, "")
}

fn devices() -> Outcome {
    let root = Rootfs::new();
    let script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; for l in fd stdin ptmx; do readlink /dev/$l; done
        chmod 600 /dev/null 2>/dev/null && echo changed; mknod /dev/d c 1 3 && (echo x > /dev/d) 2>/dev/null && echo opened
        mknod /tmp/d c 1 3 && (echo x > /tmp/d) 2>/dev/null && echo opened; touch /dev/shm/x; stat -c %a /dev/shm";
    same(root.sh(&[], script)?.as_str(), "4\n3\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n1777\n")
}

fn etc_files() -> Outcome {
    let root = Rootfs::new();
    same(root.sh(&[], "cat /etc/hostname")?.as_str(), "box\n")?;
    check(root.sh(&[], "cat /etc/hosts")?.contains("127.0.0.1\tlocalhost"), "no localhost")?;
    same(root.sh(&[], "cat /etc/resolv.conf")?, fs::read_to_string("/etc/resolv.conf").unwrap_or_default())?;
    root.sh(&[], "echo changed > /etc/resolv.conf")?;
    same(fs::read_to_string(root.dir.join("etc/resolv.conf")).unwrap().as_str(), "")
}

fn read_only() -> Outcome {
    let root = Rootfs::new();
    same(
        root.sh(&["--ro"], "(touch /x) 2>/dev/null || echo refused; touch /dev/shm/y && echo y")?.as_str(),
        "refused\ny\n",
    )
}

fn binds() -> Outcome {
    let (root, other) = (Rootfs::new(), Rootfs::new());
    let bind = format!("{}:/mnt/new", other.dir.join("home").display());
    same(root.sh(&["-v", &bind], "ls /mnt/new; touch /mnt/new/made")?.as_str(), "ann\n")?;
    check(other.dir.join("home/made").exists(), "nothing was written")?;
    ends_with(&root.run(&["-v", "/usr:/proc/sys"], &["true"]), 125, "nothing can be mounted inside /proc")?;
    ends_with(&root.run(&["-v", "/usr:/"], &["true"]), 125, "root itself")
}

fn limits() -> Outcome {
    let root = Rootfs::new();
    same(root.sh(&["--ulimit", "nofile=99:123"], "ulimit -Sn; ulimit -Hn")?.as_str(), "99\n123\n")?;
    root.sh(&["--ulimit", "nofile=999999999:999999999"], "true").map(drop)
}

fn stdin() -> Outcome {
    let root = Rootfs::new();
    for (options, expected) in [(&["-i"][..], "hello"), (&[], "")] {
        let mut child = root.runner(options, &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // Without -i nobody reads this, which is fine.
        drop(input.write_all(b"hello"));
        drop(input);
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        child.wait().unwrap();
        same(output.as_str(), expected)?;
    }
    Ok(())
}

fn signals() -> Outcome {
    let root = Rootfs::new();
    for (signal, number) in
        [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("WINCH", 28)]
    {
        let script = format!("trap 'echo got; exit 42' {signal}; echo up; while :; do sleep 0.02; done");
        let mut child = root.runner(&[], &["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut up = [0; 3];
        stdout.read_exact(&mut up).unwrap();
        send(child.id(), number);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        same((rest.as_str(), child.wait().unwrap().code()), ("got\n", Some(42)))
            .map_err(|e| format!("{signal}: {e}"))?;
    }
    Ok(())
}

fn send(pid: u32, signal: i32) {
    let pid = micafs::sys::child::Pid::new(pid).unwrap();
    micafs::sys::signal::send(pid, signal).unwrap();
}

/// Starts a container that sleeps; the runner and the container's process 1.
fn sleeping(root: &Rootfs) -> Result<(std::process::Child, u32), String> {
    let file = root.dir.join("pid");
    let mut child = root.runner(&["--pid", file.to_str().unwrap()], &["sleep", "1000"]).spawn().unwrap();
    let read = || fs::read_to_string(&file).ok().and_then(|t| t.parse().ok());
    match eventually(|| read().is_some_and(|pid: u32| comm(pid).as_deref() == Some("sleep"))) {
        Ok(()) => Ok((child, read().unwrap())),
        Err(e) => {
            child.kill().unwrap();
            child.wait().unwrap();
            Err(e)
        }
    }
}

fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|s| s.trim().to_owned())
}

fn killed() -> Outcome {
    let root = Rootfs::new();
    let (mut runner, pid) = sleeping(&root)?;
    send(pid, 9);
    same(runner.wait().unwrap().code(), Some(137))
}

fn runner_killed() -> Outcome {
    let root = Rootfs::new();
    let (mut runner, pid) = sleeping(&root)?;
    send(runner.id(), 9);
    runner.wait().unwrap();
    eventually(|| comm(pid).as_deref() != Some("sleep"))
}

fn held() -> Outcome {
    let root = Rootfs::new();
    let over = micafs::run::spec::Overrides {
        args: ["touch", "/made"].map(Into::into).to_vec(),
        hostname: "h".to_owned(),
        ..Default::default()
    };
    let spec = micafs::run::spec::from_image(root.dir.clone(), &Default::default(), &over).unwrap();
    let held = micafs::run::start(&spec).map_err(|e| e.to_string())?;
    let pid = held.pid();
    check(comm(pid).is_some() && !root.dir.join("made").exists(), "it ran already")?;
    drop(held);
    check(comm(pid).is_none() && !root.dir.join("made").exists(), "dropping did not end it")?;
    let mut running = micafs::run::start(&spec).map_err(|e| e.to_string())?;
    same(running.wait().map_err(|e| e.to_string())?.code(), 0)?;
    check(root.dir.join("made").exists(), "it did not run")
}

fn signal_state() -> Outcome {
    let root = Rootfs::new();
    // No shell in between: it changes some for itself.
    let out = root.run(&[], &["cat", "/proc/self/status"]);
    let status = String::from_utf8_lossy(&out.stdout).into_owned();
    let zero = |name: &str| status.lines().any(|l| l == format!("{name}:\t0000000000000000"));
    check(zero("SigBlk") && zero("SigIgn"), &status)
}

fn enter() -> Outcome {
    let root = Rootfs::new();
    let (mut runner, pid) = sleeping(&root)?;
    let spec = micafs::run::EnterSpec {
        argv: ["sh", "-c", "id -u > /tmp/seen; hostname >> /tmp/seen; cat /proc/1/comm >> /tmp/seen; exit 7"]
            .map(Into::into)
            .to_vec(),
        env: vec!["PATH=/bin".into()],
        cwd: b"/tmp".to_vec(),
        user: None,
        tty: false,
        interactive: false,
    };
    let status = micafs::run::enter(pid, &spec).and_then(|mut r| r.wait()).map_err(|e| e.to_string())?;
    same(status.code(), 7)?;
    same(fs::read_to_string(root.dir.join("tmp/seen")).unwrap().as_str(), "0\nbox\nsleep\n")?;
    send(pid, 9);
    runner.wait().unwrap();
    check(micafs::run::enter(pid, &spec).is_err(), "it entered a container that has ended")
}
