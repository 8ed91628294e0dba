use proptest::prelude::*;
use serde_json::json;

use super::*;

fn data() -> Value {
    json!({
        "Id": "sha256:940d959d0b657f073769c26485899aae56b25add0884e9c3a7b3fceee1cdc651",
        "Os": "linux", "Size": 11_406_933, "RepoTags": ["b:1", "x:2"], "Tags": null, "Float": 2.5,
        "RootFS": { "Type": "layers", "Layers": ["one", "two"] },
        "Config": { "Env": ["PATH=/bin"], "Entrypoint": null, "Volumes": null, "Labels": { "b": "2", "a": "<1>" } },
    })
}

fn filled(text: &str) -> String {
    match Template::parse(text).and_then(|t| t.render(&data(), Style::Document)) {
        Ok(text) => text,
        Err(e) => e.to_string(),
    }
}

/// What docker 28.2 prints for the same template and the same document.
#[test]
fn what_docker_prints() {
    for (template, expected) in [
        ("{{.Os}}", "linux"),
        ("{{ .Os }}!", "linux!"),
        ("{{.Size | printf \"%d\" | len}}", "8"),
        ("{{\"x\" | upper | lower}}", "x"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        ("{{ 1.0 }} {{1e30}} {{0x10}}", "1 1e+30 16"),
        ("{{(index .RepoTags 0) | len}}", "3"),
        ("{{$.Os}}", "linux"),
        ("{{index .Config.Env 0 | lower}}", "path=/bin"),
        ("{{.Config.Env}} {{.Config.Entrypoint}} {{.Config.Volumes}}", "[PATH=/bin] [] map[]"),
        ("{{json .Config.Entrypoint}} {{json .RootFS.Layers}}", "null [\"one\",\"two\"]"),
        ("{{json .Config.Labels}}", "{\"b\":\"2\",\"a\":\"<1>\"}"),
        ("{{.Config.Labels}}", "map[a:<1> b:2]"),
        ("{{slice .Id 7 19}}", "940d959d0b65"),
        (
            "{{printf \"%.5s|%5d|%q|%v|%-4s|%05d\" .Id 42 .Os .Config.Env \"a\" 7}}",
            "sha25|   42|\"linux\"|[PATH=/bin]|a   |00007",
        ),
        ("{{printf \"%d %s\" .Os}}", "%!d(string=linux) %!s(MISSING)"),
        ("{{println \"a\" 1}}{{print \"a\" \"b\" 1 2 \"c\"}}", "a 1\nab1 2c"),
        (
            "{{title \"abc def\"}} {{join .RepoTags \",\"}} {{split \"a:b\" \":\"}} {{index (split \"a:b\" \":\") 1}}",
            "Abc Def b:1,x:2 [a b] b",
        ),
        ("{{range $i, $e := .RepoTags}}{{$i}}={{$e}};{{else}}none{{end}}", "0=b:1;1=x:2;"),
        ("{{range .Tags}}{{.}}{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}{{end}}", "ab"),
        (
            "{{printf \"%x %X %x %x\" .Os .Os 255 true}} {{index .Config.Volumes \"x\"}}",
            "6c696e7578 6C696E7578 ff %!x(bool=true) ",
        ),
        ("{{range .RootFS.Layers}}{{.}}\n{{end}}", "one\ntwo\n"),
        ("{{with .Os}}{{.}}{{end}}{{with .Tags}}x{{else}}y{{end}}", "linuxy"),
        ("{{and 1 0}} {{or 0 \"x\"}} {{not 1}}", "0 x false"),
        ("{{pad \"x\" 1 2}}|{{truncate \"abcdef\" 3}}|{{len .RepoTags}}", " x  |abc|2"),
        ("{{ne 1 2}} {{lt 1 2}} {{eq .Os \"a\" \"linux\"}} {{ge 1.5 1}}", "true true true true"),
        ("{{if eq .Os \"linux\"}}L{{else if .Tags}}T{{else}}E{{end}}", "L"),
        ("{{if .Tags}}T{{else if .Size}}S{{else}}E{{end}}", "S"),
        ("a  {{- /* comment */ -}}  b {{- .Os -}} c", "ablinuxc"),
        ("{{`raw\\n`}}{{\"q\\t\"}}", "raw\\nq\t"),
        ("{{true}} {{.Float}} {{-3}}", "true 2.5 -3"),
        ("{{define \"t\"}}<{{.}}{{$}}>{{end}}{{template \"t\" .Os}}{{template \"t\" 1}}", "<linuxlinux><11>"),
        ("{{template \"t\"}}{{define \"t\"}}<{{.}}>{{end}}", "<<no value>>"),
        ("{{block \"b\" .RepoTags}}{{range .}}[{{.}}]{{end}}{{end}}", "[b:1][x:2]"),
        ("{{range .RepoTags}}{{block \"b\" .}}-{{.}}{{end}}{{end}}", "-b:1-x:2"),
        ("{{define \"x\"}} {{end}}{{define \"x\"}}second{{end}}{{template \"x\"}}", "second"),
        (
            "{{with .Tags}}T{{else with .Os}}{{.}}{{else}}E{{end}}{{with .Tags}}T{{else with .Tags}}U{{else}}E{{end}}",
            "linuxE",
        ),
        ("{{range .RootFS.Layers}}{{if eq . \"two\"}}{{break}}{{end}}{{.}}{{end}}", "one"),
        ("{{range .RootFS.Layers}}{{if eq . \"one\"}}{{continue}}{{end}}{{.}}{{else}}none{{end}}", "two"),
        ("{{html \"<a b='c'>&\\\"\"}} {{html 1 2}}", "&lt;a b=&#39;c&#39;&gt;&amp;&#34; 1 2"),
        ("{{js \"it's <b> \\\\ =\\n\"}}", "it\\'s \\u003Cb\\u003E \\\\ \\u003D\\u000A"),
        ("{{urlquery \"a b&c=d/ü~\"}}", "a+b%26c%3Dd%2F%C3%BC~"),
        ("no action", "no action"),
        ("", ""),
    ] {
        assert_eq!(filled(template), expected, "{template}");
    }
}

#[test]
fn errors_are_in_gos_words() {
    for (template, expected) in [
        ("{{.Id", ":1: unclosed action"),
        ("{{end}}", ":1: unexpected {{end}}"),
        ("\n{{nofunc .Id}}", ":2: function \"nofunc\" not defined"),
        ("{{if .Os}}", ":1: unexpected EOF"),
        ("{{if}}{{end}}", ":1: missing value for command"),
        ("{{\"abc", ":1: unterminated quoted string"),
        ("{{/* x", ":1: unclosed comment"),
        ("{{define \"x\"}}1{{end}}{{define \"x\"}}2{{end}}", ":1: multiple definition of template \"x\""),
        ("{{if 1}}{{define \"x\"}}1{{end}}{{end}}", ":1: unexpected <define> in command"),
        ("{{define x}}1{{end}}", ":1: unexpected \"x\" in define clause"),
        ("{{define \"x\"}}1", ":1: unexpected EOF"),
        ("{{break}}", ":1: {{break}} outside {{range}}"),
        ("{{range .}}{{block \"x\" .}}{{continue}}{{end}}{{end}}", ":1: {{continue}} outside {{range}}"),
        ("{{if 1}}{{else with 1}}{{end}}", ":1: unexpected {{else with}}"),
        ("{{template \"y\" .}}", ":1:11: executing \"\" at <{{template \"y\"}}>: template \"y\" not defined"),
        ("{{.Nope}}", ":1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        ("x\n{{.Config.Nope}}", ":2:9: executing \"\" at <.Config.Nope>: map has no entry for key \"Nope\""),
        ("{{eq 1 \"a\"}}", ":1:2: executing \"\" at <eq 1 \"a\">: incompatible types for comparison"),
        (
            "{{index .RootFS.Layers 99}}",
            ":1:2: executing \"\" at <index .RootFS.Layers 99>: error calling index: index out of range: 99",
        ),
        ("{{$y}}", ":1:2: executing \"\" at <$y>: undefined variable: $y"),
    ] {
        assert_eq!(filled(template), format!("template parsing error: template: {expected}"), "{template}");
    }
}

#[test]
fn rows_are_escaped_whole_and_headings_stay() {
    let row = json!({ "Tag": "<none>", "Labels": "a=1,b=2" });
    let render = |text: &str, style| Template::parse(text).unwrap().render(&row, style).unwrap();
    assert_eq!(
        render("{{json .}} {{json .Tag}}", Style::Row),
        "{\"Tag\":\"\\u003cnone\\u003e\",\"Labels\":\"a=1,b=2\"} \"<none>\""
    );
    assert_eq!(render("{{.Label \"b\"}}{{.Label \"c\"}}", Style::Row), "2");
    assert_eq!(render("{{.Label \"b\"}}", Style::Heading), "b");
    assert_eq!(render("{{lower .Tag}} {{json .Tag}}", Style::Heading), "<none> <none>");
}

/// Each ends soon, with an error or with little output.
#[test]
fn what_is_made_to_hurt_is_refused() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(5000), close.repeat(5000));
    for template in [
        deep("{{if 1}}", "{{end}}"),
        format!("{{{{{}1{}}}}}", "(".repeat(20_000), ")".repeat(20_000)),
        "{{printf \"%999999999999s\" .Os}}".to_owned(),
        "{{pad .Os 999999999 1}}".to_owned(),
        "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}".to_owned(),
        format!("{{{{define \"x\"}}}}{}{{{{template \"x\"}}}}{}{{{{end}}}}{{{{template \"x\"}}}}", "{{if 1}}".repeat(60), "{{end}}".repeat(60)),
        "{{define \"x\"}}{{range $i, $e := .RepoTags}}{{template \"x\" $}}{{template \"x\" $}}{{end}}{{end}}{{template \"x\" .}}".to_owned(),
        format!("{}x{}", "{{range $.RepoTags}}".repeat(40), "{{end}}".repeat(40)),
        "x".repeat(SIZE_MAX + 1),
        format!("{{{{$x := .Id}}}}{}", "{{$x = printf \"%s%s%s%s\" $x $x $x $x}}".repeat(60)),
    ] {
        assert!(filled(&template).starts_with("template parsing error"), "{}", template.get(..40).unwrap_or(&template));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any text, and texts made of what templates are made of: read or refused, never a panic.
    #[test]
    fn no_text_makes_it_panic(
        any in "\\PC{0,40}",
        parts in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{{- ", " -}}", "/*", "*/", "if ", "range ", "with ", "else", "else if ", "else with ", "define \"x\"", "template \"x\"", "block \"x\" ", "break", "continue", "html ", "js ", "urlquery ", "end", "$x", ":=", "=", ",", "|", "(",
            ")", ".", ".Os", ".RootFS.Layers", "$", "\"", "`", "\\", "1", "-1", "99999999999999999999", "index ", "slice ", "len ",
            "printf ", "\"%-5.3s\" ", "json ", "join ", "split ", "pad ", "truncate ", "eq ", "lt ", "and ", "not ", " ", "\n", "ü", "nil ",
        ]), 0..24),
    ) {
        filled(&any);
        filled(&parts.concat());
        filled(&format!("{{{{{}}}}}", parts.concat()));
    }
}
