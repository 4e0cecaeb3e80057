package main

import (
	"strings"
	"testing"
)

func TestItemWrapsAtAHundredColumns(t *testing.T) {
	word := strings.Repeat("ä", 49)
	got, want := item(word+" "+word+"x "+word), "- "+word+"\n  "+word+"x\n  "+word+"\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got, want = item(word+" "+word[:2*48]), "- "+word+" "+word[:2*48]+"\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
