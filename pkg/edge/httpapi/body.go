package httpapi

import (
	"bytes"
	"context"
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
	// maxSearchBody is the parameters of a search.
	maxSearchBody = 1 << 20
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

	zstdOnce sync.Once
	zstd     *zstd.Decoder // has no state between calls
	zstdErr  error
}

// bodyBuffers has the buffers to read and split one body. A pool reuses them.
type bodyBuffers struct {
	room    bodyRoom
	wire    bytes.Buffer // a compressed body as sent
	body    bytes.Buffer
	source  bytes.Buffer
	decoder *jsontext.Decoder
	texts   [][]byte
}

// maxPooled is the largest buffer, in bytes, that the pool reuses. A bulk of 1,000 usual
// entries fits into it.
const maxPooled = 1 << 20

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
	s.room = bodyRoom{memory: req.memory}
	s.body.Reset()
	s.wire.Reset()
	if err := b.fill(s, req); err != nil {
		b.release(s)
		return nil, "", err
	}
	return s, media, nil
}

func (b *bodies) release(s *bodyBuffers) {
	for _, buffer := range []*bytes.Buffer{&s.body, &s.wire} {
		if buffer.Cap() > maxPooled {
			*buffer = bytes.Buffer{}
		}
	}
	clear(s.texts)
	s.texts = s.texts[:0]
	s.source = bytes.Buffer{}
	s.room.give()
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

// fill reads and decompresses the whole body into the buffers. The body as sent takes
// memory at the client's pace, and what it unpacks to only once there is room for it.
func (b *bodies) fill(s *bodyBuffers, req *request) error {
	unpack, err := b.unpacker(req.Header["Content-Encoding"])
	if err != nil {
		return err
	}
	ctx := req.Context()
	if err := s.room.receive(ctx, req.ContentLength); err != nil {
		return err
	}
	wire := &limited{r: req.Body, left: b.wire}
	if unpack == nil {
		err = b.receive(&s.body, wire, req.ContentLength)
		if err == nil {
			err = s.room.reserve(ctx, int64(s.body.Len()))
		}
	} else {
		err = unpack(ctx, s, wire, req.ContentLength)
	}
	var refused *problem
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case wire.exceeded:
		return tooLarge(b.wire, "as sent")
	case errors.Is(err, errUnpackedLimit):
		return tooLarge(b.unpacked, "after decompression")
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return ProblemTooLarge.problem("The zstd body needs a window larger than " + bytesText(maxZstdWindow) + ".")
	case ctx.Err() != nil:
		return ctx.Err()
	case wire.failed != nil:
		return ProblemMalformed.problem("The body ended before it was complete.")
	}
	return ProblemMalformed.problem("The body is damaged, or its Content-Encoding is wrong.")
}

// receive reads the body as sent. length is what it announced.
func (b *bodies) receive(to *bytes.Buffer, wire *limited, length int64) error {
	if length > 0 {
		to.Grow(int(length) + bytes.MinRead) // at most b.wire
	}
	_, err := to.ReadFrom(wire)
	return err
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

// unpacker decompresses a body of an announced length into the buffers.
type unpacker func(ctx context.Context, s *bodyBuffers, wire *limited, length int64) error

// unpacker returns the function that decompresses a body of this Content-Encoding.
// It returns nil if the body is not compressed.
func (b *bodies) unpacker(values []string) (unpacker, error) {
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

// onePass is the size up to which a gzip body is unpacked in one pass, in bytes.
const onePass = 1 << 20

// gunzip unpacks a body that does not say its size. Only the beginning is kept at first.
// Once the size is known and there is room, a larger body is unpacked again. A body that
// is too large is read no further than that shows.
func (b *bodies) gunzip(ctx context.Context, s *bodyBuffers, wire *limited, _ int64) error {
	zr, ok := b.gzips.Get().(*gzip.Reader)
	if !ok {
		zr = new(gzip.Reader)
	}
	defer b.gzips.Put(zr)
	if err := zr.Reset(io.TeeReader(wire, &s.wire)); err != nil {
		return err
	}
	kept, err := s.body.ReadFrom(io.LimitReader(zr, min(onePass, b.unpacked)))
	if err != nil {
		return err
	}
	left := b.unpacked - kept
	more, err := io.Copy(io.Discard, io.LimitReader(zr, left+1))
	switch {
	case err != nil:
		return err
	case more > left:
		return errUnpackedLimit
	}
	if err := s.room.reserve(ctx, kept+more); err != nil || more == 0 {
		return err
	}
	if err := zr.Reset(&s.wire); err != nil {
		return err
	}
	s.body = *bytes.NewBuffer(make([]byte, kept+more))
	_, err = io.ReadFull(zr, s.body.Bytes())
	return err
}

// unzstd unpacks a body that need not say its size. There must be room for the limit, until
// the size is known.
func (b *bodies) unzstd(ctx context.Context, s *bodyBuffers, wire *limited, length int64) error {
	b.zstdOnce.Do(func() {
		// DecodeAll needs no window: what it has unpacked so far serves as one.
		b.zstd, b.zstdErr = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(uint64(b.unpacked)))
	})
	if b.zstdErr != nil {
		return b.zstdErr
	}
	if err := b.receive(&s.wire, wire, length); err != nil {
		return err
	}
	if err := s.room.reserve(ctx, b.unpacked); err != nil {
		return err
	}
	unpacked, err := b.zstd.DecodeAll(s.wire.Bytes(), s.body.AvailableBuffer())
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return errUnpackedLimit
	}
	s.body = *bytes.NewBuffer(unpacked)
	s.room.shrink(int64(len(unpacked)))
	return err
}

var errUnpackedLimit = errors.New("the body exceeds its limit after decompression")
