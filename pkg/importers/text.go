package importers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxLayers is how often a file may be compressed. CloudWatch Logs compresses what it sends,
	// and Amazon Data Firehose compresses that again.
	maxLayers = 3
	// zstdWindow bounds the memory for a zstd file, in bytes. zstd --long uses as much.
	zstdWindow = 128 << 20
	// A file that unpacks to over bombBytes and over bombRatio times its size is refused. Logs
	// seldom compress to less than a fiftieth.
	bombBytes = 1 << 30
	bombRatio = 200

	textBuffer = 64 << 10
)

// ErrBomb means that a compressed file is much larger unpacked than any log is.
var ErrBomb = fmt.Errorf("unpacks to over %d times its size, which no log does: if it is one, unpack it and send that", bombRatio)

// Text is the text of a file: unpacked from gzip and zstd, and as UTF-8 without a byte order mark.
// Half of a surrogate pair in UTF-16 becomes invalid UTF-8, so that only its record is faulty.
type Text struct {
	io.Reader
	close []func()
}

// NewText returns the text of a file. Close it after use.
func NewText(file io.Reader) (*Text, error) { return newText(file, bombBytes) }

// Close frees the memory of the decoders. It does not close the file.
func (t *Text) Close() {
	for _, free := range t.close {
		free()
	}
}

func newText(file io.Reader, bomb int64) (*Text, error) {
	packed := &meter{r: file}
	t := &Text{}
	r := bufio.NewReaderSize(packed, textBuffer)
	for layer := 0; ; layer++ {
		unpack, err := t.unpacker(r)
		if err != nil {
			t.Close()
			return nil, err
		}
		if unpack == nil {
			break
		}
		if layer == maxLayers {
			t.Close()
			return nil, fmt.Errorf("is compressed more than %d times", maxLayers)
		}
		r = bufio.NewReaderSize(&bombGuard{r: unpack, packed: packed, limit: bomb}, textBuffer)
	}
	var err error
	if t.Reader, err = decoded(r); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// unpacker returns a reader of what r has compressed, or nil if r is not compressed.
func (t *Text) unpacker(r *bufio.Reader) (io.Reader, error) {
	start, err := peek(r, 4)
	switch {
	case err != nil:
		return nil, err
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		unzipped, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return unzipped, nil
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		decoder, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		t.close = append(t.close, decoder.Close)
		return decoder, nil
	}
	return nil, nil
}

// peek returns the first n bytes, or fewer if there are no more.
func peek(r *bufio.Reader, n int) ([]byte, error) {
	start, err := r.Peek(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return start, nil
}

// meter counts the bytes read.
type meter struct {
	r io.Reader
	n int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	return n, err
}

// bombGuard ends with ErrBomb when far more was unpacked than was read of the file.
type bombGuard struct {
	r        io.Reader
	packed   *meter
	limit    int64
	unpacked int64
}

func (g *bombGuard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.unpacked += int64(n)
	if g.unpacked > g.limit && g.unpacked/bombRatio > g.packed.n {
		return 0, ErrBomb
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("unpack: %w", err)
	}
	return n, err
}

// decoded returns the text as UTF-8. Without a byte order mark, UTF-16 shows by a zero byte beside
// the first character, which is ASCII in JSON.
func decoded(r *bufio.Reader) (io.Reader, error) {
	start, err := peek(r, 4)
	if err != nil {
		return nil, err
	}
	little, big := false, false
	switch {
	case bytes.Equal(start, []byte{0xff, 0xfe, 0, 0}), bytes.Equal(start, []byte{0, 0, 0xfe, 0xff}):
		return nil, errors.New("is UTF-32: convert it to UTF-8")
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}):
		little = true
	case bytes.HasPrefix(start, []byte{0xfe, 0xff}):
		big = true
	case bytes.HasPrefix(start, []byte("\ufeff")):
		_, err := r.Discard(3)
		return r, err
	case len(start) >= 2 && start[0] == 0 && start[1] != 0:
		return &utf16Reader{r: r, big: true}, nil
	case len(start) >= 2 && start[0] != 0 && start[1] == 0:
		return &utf16Reader{r: r}, nil
	}
	if little || big {
		_, err := r.Discard(2)
		return &utf16Reader{r: r, big: big}, err
	}
	return r, nil
}

// utf16Reader turns UTF-16 into UTF-8.
type utf16Reader struct {
	r    *bufio.Reader
	big  bool
	high rune   // the first half of a surrogate pair that waits for its second, else 0
	out  []byte // what is decoded and not read yet
	err  error
}

func (u *utf16Reader) Read(p []byte) (int, error) {
	for len(u.out) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.fill()
	}
	n := copy(p, u.out)
	u.out = u.out[n:]
	return n, nil
}

// fill decodes what is buffered, at least one unit.
func (u *utf16Reader) fill() {
	u.out = u.out[:0]
	for first := true; first || u.r.Buffered() >= 2 && len(u.out) < textBuffer; first = false {
		unit, err := u.unit()
		if err != nil {
			u.flushHigh()
			u.err = err
			return
		}
		u.add(unit)
	}
}

func (u *utf16Reader) unit() (rune, error) {
	pair, err := peek(u.r, 2)
	switch {
	case err != nil:
		return 0, err
	case len(pair) == 1:
		return 0, errors.New("the UTF-16 text ends in the middle of a character")
	case len(pair) == 0:
		return 0, io.EOF
	}
	unit := rune(pair[0]) | rune(pair[1])<<8
	if u.big {
		unit = rune(pair[0])<<8 | rune(pair[1])
	}
	_, err = u.r.Discard(2)
	return unit, err
}

func (u *utf16Reader) add(unit rune) {
	if u.high != 0 {
		if r := utf16.DecodeRune(u.high, unit); r != utf8.RuneError {
			u.out, u.high = utf8.AppendRune(u.out, r), 0
			return
		}
		u.flushHigh()
	}
	switch {
	case unit >= 0xd800 && unit < 0xdc00:
		u.high = unit
	case utf16.IsSurrogate(unit):
		u.out = appendSurrogate(u.out, unit)
	default:
		u.out = utf8.AppendRune(u.out, unit)
	}
}

func (u *utf16Reader) flushHigh() {
	if u.high != 0 {
		u.out, u.high = appendSurrogate(u.out, u.high), 0
	}
}

// appendSurrogate appends half of a surrogate pair as three bytes that are not valid UTF-8.
func appendSurrogate(b []byte, r rune) []byte {
	return append(b, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
}
