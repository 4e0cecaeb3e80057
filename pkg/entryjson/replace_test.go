package entryjson_test

import (
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

func TestMayHaveName(t *testing.T) {
	for text, want := range map[string]bool{
		`{"x":1}`:                       true,
		`{"a":{"b":[{"x":1}]}}`:         true,
		`{"\u0078":1}`:                  true,
		`{"a":"\\","x":1}`:              true,
		`{"a\"":1,"x":1}`:               true,
		`{"a":"x"}`:                     false,
		`{"a":["x"]}`:                   false,
		`{"a":"x:","b":":"}`:            false,
		`{"xx":1,"":2}`:                 false,
		`{}`:                            false,
		`{"a":"\"x\":1"}`:               false, // the backslash belongs to what looks like the name
		`{"a` + "\u00e9" + `":1,"x":1}`: true,
	} {
		got := entryjson.MayHaveName(audit.Object(text), func(name []byte) bool { return string(name) == "x" })
		if got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestReplaceScalars(t *testing.T) {
	for _, test := range []struct{ text, want, pointers string }{
		{`{"x":"y","a":"y"}`, `{"x":"<\"x\">","a":"y"}`, "/o/x"},
		{`{"x":[1,[-2.5e3,{"a":1}],{"x":true}],"a":[{"x":null}]}`,
			`{"x":["<\"x\">",["<\"x\">",{"a":1}],{"x":"<\"x\">"}],"a":[{"x":"<\"x\">"}]}`, "/o/x/0 /o/x/1/0 /o/x/2/x /o/a/0/x"},
		{`{"\u0078":"é","a/b~":{"x":""}}`, `{"\u0078":"<\"x\">","a/b~":{"x":"<\"x\">"}}`, "/o/x /o/a~1b~0/x"},
		{`{"x":{},"a":{"x":[]}}`, `{"x":{},"a":{"x":[]}}`, ""},
		{`{}`, `{}`, ""},
		{``, ``, ""},
	} {
		var pointers []string
		got, err := entryjson.ReplaceScalars(audit.Object(test.text), "/o", func(s entryjson.Scalar) (string, bool) {
			if string(s.Name) != "x" {
				return "", false
			}
			pointers = append(pointers, string(s.Pointer))
			return `<"x">`, true
		})
		if err != nil {
			t.Errorf("%s: got error %v, want none", test.text, err)
		}
		if string(got) != test.want {
			t.Errorf("%s: got %s, want %s", test.text, got, test.want)
		}
		if got := strings.Join(pointers, " "); got != test.pointers {
			t.Errorf("%s: got the places %s, want %s", test.text, got, test.pointers)
		}
	}
}

func TestReplaceScalarsRefusesOtherText(t *testing.T) {
	for _, text := range []string{`{`, `[`, `{"a"`, `{"a":`, `{"a":1`, `{"a":}`, `{"a":[1`, `{"a":1}x`, `{a:1}`, `{"a":"x}`, `{,}`} {
		if got, err := entryjson.ReplaceScalars(audit.Object(text), "", func(entryjson.Scalar) (string, bool) { return "", false }); err == nil {
			t.Errorf("%s: got %s, want an error", text, got)
		}
	}
}
