package importers

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
)

func utf16Bytes(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// PackGzip returns the text in gzip.
func PackGzip(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func packZstd(t *testing.T, text string) string {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = encoder.Close() }()
	return string(encoder.EncodeAll([]byte(text), nil))
}

func readText(file io.Reader, bomb int64) (string, error) {
	text, err := newText(file, bomb)
	if err != nil {
		return "", err
	}
	defer text.Close()
	b, err := io.ReadAll(text)
	return string(b), err
}

func TestTextOfEveryEncoding(t *testing.T) {
	const text = `{"name":"Zoë 数据库 🚀"}`
	for name, file := range map[string]string{
		"UTF-8": text, "UTF-8 with a mark": "\ufeff" + text,
		"UTF-16 LE": utf16Bytes("\ufeff"+text, binary.LittleEndian), "UTF-16 BE": utf16Bytes("\ufeff"+text, binary.BigEndian),
		"UTF-16 LE without a mark": utf16Bytes(text, binary.LittleEndian), "UTF-16 BE without a mark": utf16Bytes(text, binary.BigEndian),
		"gzip": PackGzip(t, text), "gzip members": PackGzip(t, text[:9]) + PackGzip(t, text[9:]),
		"zstd": packZstd(t, text), "zstd frames": packZstd(t, text[:9]) + packZstd(t, text[9:]),
		"gzip twice": PackGzip(t, PackGzip(t, text)), "gzip of UTF-16": PackGzip(t, utf16Bytes("\ufeff"+text, binary.BigEndian)),
	} {
		for _, reader := range []func(io.Reader) io.Reader{iotest.OneByteReader, func(r io.Reader) io.Reader { return r }} {
			got, err := readText(reader(strings.NewReader(file)), bombBytes)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got != text {
				t.Errorf("%s: got %q, want %q", name, got, text)
			}
		}
	}
}

func TestTextThatCannotBeRead(t *testing.T) {
	packed := PackGzip(t, strings.Repeat("some text ", 1000))
	for _, c := range []struct{ name, file, want string }{
		{"UTF-32 LE", "\xff\xfe\x00\x00{\x00\x00\x00", "UTF-32"},
		{"UTF-32 BE", "\x00\x00\xfe\xff\x00\x00\x00{", "UTF-32"},
		{"half a character", "\xff\xfe{\x00}", "in the middle of a character"},
		{"gzip cut off", packed[:len(packed)-9], "unexpected EOF"},
		{"gzip header", "\x1f\x8bxx", "gzip"},
		{"zstd garbage", "\x28\xb5\x2f\xfd\xff\xff\xff\xff", "unpack"},
		{"packed too often", PackGzip(t, PackGzip(t, PackGzip(t, PackGzip(t, "x")))), "more than 3 times"},
	} {
		_, err := readText(strings.NewReader(c.file), bombBytes)
		if err == nil {
			t.Errorf("%s: got no error, want one with %q", c.name, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %q, want it to contain %q", c.name, err, c.want)
		}
	}
}

// Only the record with half of a surrogate pair is faulty.
func TestHalvesOfSurrogatePairsAreInvalidUTF8(t *testing.T) {
	got, err := readText(strings.NewReader("\xff\xfea\x00\x00\xd8b\x00\x00\xdc\x00\xd8"), bombBytes)
	if err != nil {
		t.Fatal(err)
	}
	if want := "a\xed\xa0\x80b\xed\xb0\x80\xed\xa0\x80"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBombsAreRefused(t *testing.T) {
	zeros := strings.Repeat("\x00", 8<<20)
	for name, file := range map[string]string{
		"gzip": PackGzip(t, zeros), "zstd": packZstd(t, zeros), "gzip in zstd": packZstd(t, PackGzip(t, zeros)),
	} {
		if _, err := readText(strings.NewReader(file), 1<<20); !errors.Is(err, ErrBomb) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrBomb)
		}
	}
	text := strings.Repeat("log ", 1<<10)
	if _, err := readText(strings.NewReader(PackGzip(t, text)), int64(len(text))); err != nil {
		t.Errorf("a small file that compresses well: %v", err)
	}
}

// endless repeats a text after its start.
type endless struct {
	start io.Reader
	left  int64
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.start.Read(p); err == nil {
		return n, nil
	}
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := int(min(e.left, int64(len(p))))
	e.left -= int64(n)
	for i := range p[:n] {
		p[i] = 'x'
	}
	return n, nil
}

// A line over the limit is passed over in bounded memory, and the next one is read.
func TestALineThatIsTooLongFailsAlone(t *testing.T) {
	text := io.MultiReader(&endless{strings.NewReader("{\"action\":\"A\"}\n{\"a\":\""), 3 * MaxRecordBytes}, strings.NewReader("\"}\n{\"action\":\"B\"}"))
	var got []string
	for record, err := range Read(text, Auto) {
		switch {
		case err != nil:
			t.Fatal(err)
		case record.Err != nil:
			got = append(got, record.Err.Error())
		default:
			got = append(got, string(record.Entry))
		}
	}
	if want := `{"action":"A"}|` + ErrRecordTooLarge.Error() + `|{"action":"B"}`; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestARecordOfADocumentThatIsTooLongEndsIt(t *testing.T) {
	for _, start := range []string{`{"Records":[{"a":"`, `[{"a":"`, "{\n\"a\":\""} {
		var last error
		for _, err := range Read(&endless{strings.NewReader(start), 3 * MaxRecordBytes}, Auto) {
			last = err
		}
		if !errors.Is(last, ErrRecordTooLarge) {
			t.Errorf("%s: got error %v, want %v", start, last, ErrRecordTooLarge)
		}
	}
}

// A file that is one line is read, whatever its size.
func TestDocumentsLargerThanARecordMayBe(t *testing.T) {
	record := `{"a":"` + strings.Repeat("x", 900<<10) + `"}`
	for _, c := range []struct{ start, between, end string }{{`{"Records":[`, ",", "]}"}, {"[", ",", "]"}, {"", "", ""}, {"", "\n", ""}} {
		n := 0
		for record, err := range Read(strings.NewReader(c.start+strings.Repeat(record+c.between, 19)+record+c.end), Auto) {
			if err != nil {
				t.Fatal(err)
			}
			if record.Err != nil {
				t.Fatal(record.Err)
			}
			n++
		}
		if n != 20 {
			t.Errorf("%q: got %d records, want 20", c.start+c.between, n)
		}
	}
}
