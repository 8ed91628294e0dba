//! Many processes at once on one mount; afterwards nothing is left in work and a remount shows the same.

use crate::place::Place;
use crate::place::names;
use crate::place::put;
use crate::place::shell;
use crate::support::bin;

/// A shell loop of random changes on few names; every single command may fail, since others change the same names.
const LOOP: &str = "
seed=$1; n=0
next() { seed=$(( (seed * 1103515245 + 12345) % 2147483648 )); r=$(( (seed / 65536) % $1 )); }
while [ $n -lt 150 ]; do
  n=$((n + 1)); next 6; a=d$((r % 2))/n$r; next 6; b=d$((r % 2))/n$r; next 14
  case $r in
    0|1) echo $n >$a ;; 2) echo $n >>$a ;; 3) rm -f $a ;; 4) mkdir $a ;; 5) rm -rf $a ;;
    6) mv -T $a $b ;; 7) ln $a $b ;; 8) ln -s x $a ;; 9) chmod $((600 + r)) $a ;; 10) touch $a/in ;;
    11) cat $a ;; 12) ls -l d0 d1 ;; 13) truncate -s $n $a ;;
  esac >/dev/null 2>&1 || true
done";

#[test]
fn random_changes_of_eight_processes() {
    let fill = |high: &std::path::Path, low: &std::path::Path| {
        for i in 0..6 {
            put(low, &format!("d{}/n{i}/in", i % 2), "low");
            put(high, &format!("d{}/n{}", (i + 1) % 2, i + 10), "high");
        }
    };
    let Some(p) = Place::mounted("stress", fill) else { return };
    let children: Vec<_> =
        (1..=8).map(|seed| shell(&p.top, &format!("set -- {seed}{LOOP}")).spawn().expect("sh")).collect();
    for child in children {
        let out = child.wait_with_output().expect("wait");
        assert!(out.status.success(), "{out:?}");
    }
    assert_eq!(names(&p.beside("w/work")), [""; 0], "nothing left in work");
    let listed = bin::run_ok(&mut shell(&p.top, "find . -print0 | xargs -0 stat -c %n | wc -l; find . | wc -l"));
    let counts: Vec<_> = listed.split_whitespace().collect();
    assert_eq!(counts[0], counts[1], "every listed name can be looked up");
    p.same_after_remount_and_by_the_kernel();
}
