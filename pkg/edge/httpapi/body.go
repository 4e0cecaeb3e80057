package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The limits of request bodies, in bytes.
const (
	// maxEntryBody leaves room for white space around an entry of the full size.
	maxEntryBody = audit.MaxEntryBytes + 4<<10
	// maxAdminBody is a tenant's or a key's document.
	maxAdminBody = 256 << 10
	// maxZstdWindow is what RFC 8878, section 3.1.1.1.2, recommends decoders to support.
	maxZstdWindow = 8 << 20
)

// The media types of the API.
const (
	MediaJSON       = "application/json"
	MediaMergePatch = "application/merge-patch+json" // RFC 7396
	MediaNDJSON     = "application/x-ndjson"
	MediaJSONL      = "application/jsonl"
	MediaProblem    = "application/problem+json"
)

// bodies reads the request bodies of one function within its limits.
type bodies struct {
	media    []string
	wire     int64 // limit of the body as sent
	unpacked int64 // limit of the body after decompression

	buffers sync.Pool // *bodyBuffers
	gzips   sync.Pool // *gzip.Reader
	zstds   sync.Pool // *zstd.Decoder
}

// bodyBuffers has the buffers to read and split one body. A pool reuses them.
type bodyBuffers struct {
	body    bytes.Buffer
	source  bytes.Buffer
	decoder *jsontext.Decoder
	texts   [][]byte
}

// maxPooled is the largest body buffer, in bytes, that the pool reuses.
const maxPooled = 4 << 20

// read returns the body and its media type. The caller must release the buffers,
// and must not use the body afterwards.
func (b *bodies) read(req *request) (s *bodyBuffers, media string, err error) {
	media, err = b.mediaType(req.Header["Content-Type"])
	if err != nil {
		return nil, "", err
	}
	if req.ContentLength > b.wire {
		return nil, "", tooLarge(b.wire, "as sent")
	}
	s, ok := b.buffers.Get().(*bodyBuffers)
	if !ok {
		s = &bodyBuffers{decoder: new(jsontext.Decoder)}
	}
	s.body.Reset()
	if err := b.fill(s, req); err != nil {
		b.release(s)
		return nil, "", err
	}
	return s, media, nil
}

func (b *bodies) release(s *bodyBuffers) {
	if s.body.Cap() > maxPooled {
		s.body = bytes.Buffer{}
	}
	clear(s.texts)
	s.texts = s.texts[:0]
	s.source = bytes.Buffer{}
	b.buffers.Put(s)
}

func tooLarge(limit int64, which string) *problem {
	return ProblemTooLarge.problem("The body is larger than " + bytesText(limit) + " " + which + ".")
}

// mediaType returns the type of the body. The function must accept it.
func (b *bodies) mediaType(values []string) (string, error) {
	refused := ProblemMediaType.problem("Content-Type must be " + strings.Join(b.media, " or ") + ", in UTF-8.")
	if len(values) != 1 {
		return "", refused
	}
	if slices.Contains(b.media, values[0]) {
		return values[0], nil
	}
	media, params, err := mime.ParseMediaType(values[0])
	if err != nil || !slices.Contains(b.media, media) {
		return "", refused
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", refused
	}
	return media, nil
}

// fill reads and decompresses the whole body into the buffers.
func (b *bodies) fill(s *bodyBuffers, req *request) error {
	wire := &limited{r: req.Body, left: b.wire}
	unpack, err := b.unpacker(req.Header["Content-Encoding"])
	if err != nil {
		return err
	}
	if unpack == nil && req.ContentLength > 0 {
		s.body.Grow(int(req.ContentLength) + bytes.MinRead) // at most b.wire
	}
	if unpack == nil {
		_, err = s.body.ReadFrom(wire)
	} else {
		err = unpack(&s.body, wire)
	}
	switch {
	case err == nil:
		return nil
	case wire.exceeded:
		return tooLarge(b.wire, "as sent")
	case errors.Is(err, errUnpackedLimit):
		return tooLarge(b.unpacked, "after decompression")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return ProblemTooLarge.problem("The zstd body needs a window larger than " + bytesText(maxZstdWindow) + ".")
	case wire.failed != nil && req.Context().Err() != nil:
		return req.Context().Err()
	case wire.failed != nil:
		return ProblemMalformed.problem("The body ended before it was complete.")
	}
	return ProblemMalformed.problem("The body is damaged, or its Content-Encoding is wrong.")
}

// limited reads at most left bytes. It records why reading ended early: exceeded
// for the limit, failed for the connection.
type limited struct {
	r        io.Reader
	left     int64
	exceeded bool
	failed   error
}

var errWireLimit = errors.New("the body exceeds its limit as sent")

func (l *limited) Read(p []byte) (int, error) {
	if l.exceeded {
		return 0, errWireLimit
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		l.exceeded = true
		return 0, errWireLimit
	}
	if err != nil && err != io.EOF {
		l.failed = err
	}
	return n, err
}

var errUnpackedLimit = errors.New("the body exceeds its limit after decompression")

// unpackTo copies from r. It returns errUnpackedLimit if r has more than b.unpacked bytes.
func (b *bodies) unpackTo(dst *bytes.Buffer, r io.Reader) error {
	n, err := dst.ReadFrom(io.LimitReader(r, b.unpacked+1))
	if err == nil && n > b.unpacked {
		return errUnpackedLimit
	}
	return err
}

// unpacker returns the function that decompresses a body of this Content-Encoding.
// It returns nil if the body is not compressed.
func (b *bodies) unpacker(values []string) (func(dst *bytes.Buffer, wire io.Reader) error, error) {
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) == 1 {
		switch strings.ToLower(strings.TrimSpace(values[0])) {
		case "", "identity":
			return nil, nil
		case "gzip", "x-gzip":
			return b.gunzip, nil
		case "zstd":
			return b.unzstd, nil
		}
	}
	return nil, ProblemMediaType.problem("Content-Encoding must be gzip, zstd or identity.").with("Accept-Encoding", "gzip, zstd")
}

func (b *bodies) gunzip(dst *bytes.Buffer, wire io.Reader) error {
	zr, ok := b.gzips.Get().(*gzip.Reader)
	if !ok {
		zr = new(gzip.Reader)
	}
	defer b.gzips.Put(zr)
	if err := zr.Reset(wire); err != nil {
		return err
	}
	return b.unpackTo(dst, zr)
}

func (b *bodies) unzstd(dst *bytes.Buffer, wire io.Reader) error {
	zr, ok := b.zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		// One goroutine and bounded memory, whatever size the frame declares.
		zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return err
		}
	}
	defer func() {
		_ = zr.Reset(nil) // drops the reference to the request's body; never fails for nil
		b.zstds.Put(zr)
	}()
	if err := zr.Reset(wire); err != nil {
		return err
	}
	return b.unpackTo(dst, zr)
}
