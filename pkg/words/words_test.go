package words_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/words"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"ascii", "Payment FAILED: order-17", []string{"payment", "failed", "order", "17"}},
		{"composed", "modifi\u00e9", []string{"modifi\u00e9"}},
		{"decomposed", "modifie\u0301", []string{"modifi\u00e9"}},
		{"final sigma", "ὁδός", []string{"ὁδόσ"}},
		{"capital sigma", "ὉΔΌΣ", []string{"ὁδόσ"}},
		{"full folding", "Straße", []string{"strasse"}},
		{"cherokee", "Ꭰꭰ ᏰᏸꭱᎡ", []string{"ᎠᎠ", "ᏰᏰᎡᎡ"}},
		{"digits of other scripts", "رقم ٤٢", []string{"رقم", "٤٢"}},
		{"chinese", "重建数据库", []string{"重", "建", "数", "据", "库"}},
		{"chinese beside latin", "用户abc12登录", []string{"用", "户", "abc12", "登", "录"}},
		{"japanese", "サーバー再起動", []string{"サ", "ー", "バ", "ー", "再", "起", "動"}},
		{"thai", "ผู้ใช้", []string{"ผู้", "ใ", "ช้"}},
		{"korean has spaces", "서버 다시", []string{"서버", "다시"}},
		{"symbols", "deploy 🚀 done – ok", []string{"deploy", "done", "ok"}},
		{"colors", "\x1b[31mred\x1b[0m alert", []string{"red", "alert"}},
		{"title of a window", "\x1b]0;title\x07text", []string{"text"}},
		{"string without an end", "\x1b]0;title text", []string{"0", "title", "text"}},
		{"sequence without an end", "\x1b[31", []string{"31"}},
		{"escape at the end", "text\x1b", []string{"text"}},
		{"reset of a terminal", "\x1b[31mbackup failed\x1b(B\x1b[m now", []string{"backup", "failed", "now"}},
		{"several intermediate bytes", "\x1b$(Cdisk", []string{"disk"}},
		{"intermediate byte at the end", "disk\x1b(", []string{"disk"}},
		{"sequences of one character", "\u009b31mfull\u009b0m\u0085disk", []string{"full", "disk"}},
		{"strings of one character", "\u009d0;title\u009ctext \u0090a\u0098b\u009ec\u009fd\u009c", []string{"0", "title", "text", "a", "b", "c", "d"}},
		{"quotes encoded twice", "he said â\u0080\u009cstopâ\u0080\u009d then deleted the ledger â\u0080\u009cnowâ\u0080\u009d",
			[]string{"he", "said", "â", "stopâ", "then", "deleted", "the", "ledger", "â", "nowâ"}},
		{"string ended by a character", "\x1b]0;title\u009ctext", []string{"text"}},
		{"string ended by an escape", "\x1b]0;title\x1b\\text", []string{"text"}},
		{"string that is too long", "\x1b]" + strings.Repeat("a ", 2047) + "\atext", append(slices.Repeat([]string{"a"}, 2047), "text")},
		{"longest string", "\x1b]" + strings.Repeat("a ", 2046) + "a\atext", []string{"text"}},
		{"no control characters", "§ 5 é Â£9", []string{"5", "é", "â", "9"}},
		{"nothing", " -- ", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := words.Split(c.text); !slices.Equal(got, c.want) {
				t.Errorf("words of %q: got %q, want %q", c.text, got, c.want)
			}
		})
	}
}

func TestSplitCutsLongWords(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", 300), strings.Repeat("é", 300)} {
		got := words.Split(text)
		if len(got) != 1 {
			t.Fatalf("got %d words, want 1", len(got))
		}
		if n := len(got[0]); n > words.MaxLength || n < words.MaxLength-utf8.UTFMax {
			t.Errorf("the word has %d bytes, want up to %d", n, words.MaxLength)
		}
	}
}

// A query is divided like a message. The words of a word must therefore be that word.
func TestSplitKeepsWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		// The package norm composes some letters beyond U+FFFF wrongly.
		text = strings.Map(func(r rune) rune { return min(r, 0xFFFD) }, text)
		for _, word := range words.Split(text) {
			if len(word) > words.MaxLength-16 { // a cut word may end in half of what NFC joins
				continue
			}
			if got := words.Split(word); !slices.Equal(got, []string{word}) {
				t.Fatalf("words of the word %q: got %q, want the word", word, got)
			}
		}
	})
}

// Any part of a text in a script without spaces is a phrase of its words.
func TestSplitFindsAnyPart(t *testing.T) {
	letters := []rune("数据库再起動サーバーผู้ใช้ก")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom(letters), 1, 30).Draw(t, "text")
		from := rapid.IntRange(0, len(text)-1).Draw(t, "from")
		to := rapid.IntRange(from+1, len(text)).Draw(t, "to")
		if from > 0 && strings.ContainsRune("ู้", text[from]) || to < len(text) && strings.ContainsRune("ู้", text[to]) {
			return // a mark belongs to its letter
		}
		whole, part := words.Split(string(text)), words.Split(string(text[from:to]))
		for i := 0; i+len(part) <= len(whole); i++ {
			if slices.Equal(whole[i:i+len(part)], part) {
				return
			}
		}
		t.Fatalf("words %q of %q are not in %q of the whole", part, string(text[from:to]), whole)
	})
}

// The texts have sequences that do not end. Each benchmark must take as long for a byte of the
// longer text as for one of the shorter.
func BenchmarkSplitHostile(b *testing.B) {
	for _, begin := range []string{"\u009d", "\u0090", "\u009b", "\u009b0", "\x1b]", "\x1bP0", "\x1b[", "\x1b[0", "\x1b(", "\x1b"} {
		for _, size := range []int{8 << 10, 128 << 10} {
			b.Run(fmt.Sprintf("%q/%d", begin, size), func(b *testing.B) {
				text := strings.Repeat(begin, size/len(begin))
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					words.Split(text)
				}
			})
		}
	}
}
