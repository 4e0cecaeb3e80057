// Package envelope packs entries of one tenant into queue messages, in which they pass
// from step to step. Its JSON Schema is events/schemas/envelope.json.
package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// Version is the version of the messages that Pack writes. Unpack reads this version
// and all earlier ones.
const Version = 1

// TargetBytes is the target size of a message. SQS bills a request in chunks of 64 KB,
// and the remaining bytes are for the message's attributes. A message with a single
// entry may be larger, but always fits into SQS's limit of 1 MiB.
const TargetBytes = 60 << 10

// partBytes is the size for which many entries are divided into messages. They differ a little, and one that
// is larger than TargetBytes becomes two.
const partBytes = TargetBytes * 19 / 20

// maxLines bounds the lines of a message, in bytes, unless a single entry is larger. A
// consumer unpacks ten messages at once and needs many times their size. Similar lines
// compress to a hundredth.
const maxLines = 1 << 20

// maxUnpacked bounds the unpacked size of one message, in bytes. A bulk has at most
// audit.MaxBulkUnpacked bytes, and the service adds its own fields.
const maxUnpacked = 64 << 20

const encodingZstd = "zstd"

// message is the JSON form of a message. Data is zstd-compressed lines in base64. Each
// line is an entry in the form of entryjson.AppendStored.
type message struct {
	Version  int            `json:"v"`
	Tenant   audit.TenantID `json:"tenant"`
	ID       string         `json:"id,omitempty"` // base64 of an audit.MessageID
	Traces   traces         `json:"traces,omitempty"`
	Count    int            `json:"count"`
	Encoding string         `json:"encoding"`
	Data     string         `json:"data"`
	Reason   string         `json:"reason,omitempty"`
}

// MaxRawBytes is the largest size of lines that are not compressed. For a single entry,
// compression would take an eighth of the request's processor time and save nothing: SQS
// bills one chunk in both cases.
const MaxRawBytes = 4 << 10

// The codecs have no state between calls and may be used concurrently.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)

// Packer collects entries of one tenant and packs them into messages. A Packer is ready
// for use if only Tenant is set.
type Packer struct {
	Tenant audit.TenantID
	// Random fills b with random bytes. It gives each message its id; nil: messages have none.
	// An ingest message needs an id; see Message.ID.
	Random func(b []byte)
	// Time is what the ids of messages begin with.
	Time time.Time
	// Traces are those of the entries that are added next. A message has those of its entries.
	Traces []trace.Trace
	// Handoff remembers the entries of the messages, unless all lines have more than maxHandedOn
	// bytes; nil: nothing does. Added entries must not be changed any more then.
	Handoff *Handoff
	lines   []byte
	ends    []int         // the end of each line in lines
	entries []audit.Entry // for Handoff
	traced  []tracedRun
}

// tracedRun are the traces of the entries from an index up to the next run.
type tracedRun struct {
	from   int
	traces []trace.Trace
}

// tracesOf returns the traces of the entries with the indexes first to last-1.
func (p *Packer) tracesOf(first, last int) traces {
	var lists [][]trace.Trace
	for i, run := range p.traced {
		end := len(p.ends)
		if i+1 < len(p.traced) {
			end = p.traced[i+1].from
		}
		if run.from < last && end > first {
			lists = append(lists, run.traces)
		}
	}
	return trace.Merge(lists...)
}

// Grow reserves memory for this number of entries. size is the total size of their
// submitted text, in bytes. Calling it is optional.
func (p *Packer) Grow(entries, size int) {
	const added = 400 // approximate size of the service's own fields of an entry, in bytes
	if p.lines == nil {
		p.lines = lineBuffers.Get().(*lineBuffer).lines[:0]
	}
	p.lines = slices.Grow(p.lines, size+entries*added)
	p.ends = slices.Grow(p.ends, entries)
	if p.Handoff != nil {
		p.entries = slices.Grow(p.entries, entries)
	}
}

// Release removes the entries and lets other packers use the memory. Calling it is optional.
func (p *Packer) Release() {
	if cap(p.lines) <= maxPooled {
		lineBuffers.Put(&lineBuffer{p.lines})
	}
	p.lines, p.ends, p.entries, p.traced = nil, nil, nil, nil
}

// lineBuffers are the lines of packers that were released.
var lineBuffers = sync.Pool{New: func() any { return new(lineBuffer) }}

type lineBuffer struct{ lines []byte }

// Add adds an entry. Without Handoff, the packer has no reference to it afterwards.
func (p *Packer) Add(e *audit.Entry) {
	if n := len(p.traced); n == 0 && len(p.Traces) > 0 || n > 0 && !slices.Equal(p.traced[n-1].traces, p.Traces) {
		p.traced = append(p.traced, tracedRun{len(p.ends), p.Traces})
	}
	p.lines = append(entryjson.AppendStored(p.lines, e), '\n')
	p.ends = append(p.ends, len(p.lines))
	if p.Handoff == nil {
		return
	}
	if len(p.lines) > maxHandedOn {
		p.Handoff, p.entries = nil, nil
		return
	}
	p.entries = append(p.entries, *e)
}

// Len returns the number of added entries.
func (p *Packer) Len() int { return len(p.ends) }

// Messages returns messages with all added entries, in their order. It returns as few
// as TargetBytes and the bound of the unpacked size allow, and none without entries.
func (p *Packer) Messages() ([]string, error) {
	return p.pack(nil, 0, len(p.ends), false)
}

// pack appends the messages of the entries with the indexes first to last-1. foreseen says that they are a part
// whose size was estimated.
func (p *Packer) pack(messages []string, first, last int, foreseen bool) ([]string, error) {
	if first == last {
		return messages, nil
	}
	start := 0
	if first > 0 {
		start = p.ends[first-1]
	}
	if size := p.ends[last-1] - start; size > maxLines && last-first > 1 {
		return p.packParts(messages, first, last, size/maxLines+1, false)
	}
	lines := p.lines[start:p.ends[last-1]]
	if parts := messagesFor(lines); parts > 1 && last-first > 1 && !foreseen {
		return p.packParts(messages, first, last, parts, true)
	}
	id, traces := p.newID(), p.tracesOf(first, last)
	body, err := encode(message{Tenant: p.Tenant, ID: textOf(id), Traces: traces, Count: last - first}, lines)
	if err != nil {
		return nil, err
	}
	if len(body) <= TargetBytes || last-first == 1 {
		if p.Handoff != nil {
			p.Handoff.put(body, Contents{Tenant: p.Tenant, ID: id, Traces: traces, Entries: p.entries[first:last:last], Size: len(lines)})
		}
		return append(messages, body), nil
	}
	return p.packParts(messages, first, last, len(body)/partBytes+1, true)
}

// sampleBytes is how much of many lines is compressed to estimate the size of all. Compressing all of them
// only to see that they are too many would take as long as all else that packs them.
const sampleBytes = 64 << 10

// messagesFor estimates how many messages lines need. It returns 1 if that should be found out by packing them.
func messagesFor(lines []byte) int {
	if len(lines) < 4*sampleBytes {
		return 1
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.packed = appendFrame(s.packed[:0], lines[:sampleBytes])
	return base64.StdEncoding.EncodedLen(len(s.packed))*len(lines)/sampleBytes/partBytes + 1
}

// newID returns a new message id, the zero id without Random.
func (p *Packer) newID() (id audit.MessageID) {
	if p.Random != nil {
		var random [10]byte
		p.Random(random[:])
		id = audit.MessageID(audit.NewEntryID(p.Time, random))
	}
	return id
}

// textOf returns the text of a message id, "" for the zero id.
func textOf(id audit.MessageID) string {
	if id.IsZero() {
		return ""
	}
	return messageIDEncoding.EncodeToString(id[:])
}

// messageIDEncoding has one spelling for each id.
var messageIDEncoding = base64.RawURLEncoding.Strict()

// packParts divides the entries into parts of at least one entry, and appends the
// messages of each part.
func (p *Packer) packParts(messages []string, first, last, parts int, foreseen bool) ([]string, error) {
	parts = min(parts, last-first)
	for i := range parts {
		from, to := first+(last-first)*i/parts, first+(last-first)*(i+1)/parts
		var err error
		if messages, err = p.pack(messages, from, to, foreseen); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// scratches are buffers that encode reuses.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

type scratch struct{ packed, body []byte }

// maxPooled is the size of the largest scratch that is reused, in bytes.
const maxPooled = 1 << 20

func (s *scratch) release() {
	if cap(s.packed)+cap(s.body) <= maxPooled {
		scratches.Put(s)
	}
}

// appendFrame appends the lines as a zstd frame with a checksum.
func appendFrame(frame, lines []byte) []byte {
	if len(lines) > MaxRawBytes {
		return encoder().EncodeAll(lines, frame)
	}
	return appendRawFrame(frame, lines)
}

// appendRawFrame appends a zstd frame of one raw block. Its form is that of RFC 8878, section 3.1.1:
// the header, three bytes with the block's size, type and place, the block, and a checksum.
func appendRawFrame(frame, block []byte) []byte {
	frame, err := (&zstd.Header{SingleSegment: true, HasCheckSum: true, FrameContentSize: uint64(len(block))}).AppendTo(frame)
	if err != nil {
		panic(err) // only the header of a skippable frame can fail
	}
	const last, raw, sizeShift = 1, 0 << 1, 3
	head := len(block)<<sizeShift | raw | last
	frame = append(frame, byte(head), byte(head>>8), byte(head>>16))
	frame = append(frame, block...)
	return binary.LittleEndian.AppendUint32(frame, uint32(xxhash.Sum64(block)))
}

// encode returns the message's JSON form. It is written here and not by encoding/json, which would
// take a twentieth of what accepting a single entry costs.
func encode(m message, lines []byte) (string, error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	s.packed = appendFrame(s.packed[:0], lines)
	body, err := m.appendHead(s.body[:0])
	if err == nil {
		body = append(base64.StdEncoding.AppendEncode(append(body, `"data":"`...), s.packed), '"')
		if m.Reason != "" {
			body, err = jsontext.AppendQuote(append(body, `,"reason":`...), strings.ToValidUTF8(m.Reason, "\uFFFD"))
		}
	}
	s.body = body
	if err != nil {
		return "", fmt.Errorf("pack %d entries of %s: %w", m.Count, m.Tenant, err)
	}
	return string(append(body, '}')), nil
}

// appendHead appends the members before data, each with a comma behind it.
func (m *message) appendHead(b []byte) (_ []byte, err error) {
	b = append(strconv.AppendInt(append(b, `{"v":`...), Version, 10), `,"tenant":`...)
	if b, err = jsontext.AppendQuote(b, string(m.Tenant)); err != nil {
		return b, err
	}
	if m.ID != "" {
		b = append(append(append(b, `,"id":"`...), m.ID...), '"') // base64
	}
	if len(m.Traces) > 0 {
		b = m.Traces.append(append(b, `,"traces":`...))
	}
	b = strconv.AppendInt(append(b, `,"count":`...), int64(m.Count), 10)
	return append(b, `,"encoding":"`+encodingZstd+`",`...), nil
}

// Pack returns messages with the entries. See Packer.Messages.
func Pack(tenant audit.TenantID, entries []audit.Entry) ([]string, error) {
	p := Packer{Tenant: tenant}
	for i := range entries {
		p.Add(&entries[i])
	}
	return p.Messages()
}

// Contents is the content of a message.
type Contents struct {
	Tenant  audit.TenantID
	ID      audit.MessageID // zero if the message has none; see Message.ID
	Traces  []trace.Trace   // of the requests that brought the entries
	Entries []audit.Entry
	// Poison has the lines that are not an entry of the tenant.
	Poison []Poison
	// Size is the number of bytes that all lines have.
	Size int
}

// Poison is a line that cannot be read as an entry.
type Poison struct {
	Line   []byte
	Reason string // without the content of the line
}

// ErrVersion means that a later release packed the message.
var ErrVersion = errors.New("unknown version of an entries message")

// checkHead checks the version and the tenant of a message. known is the last version that can be
// read.
func checkHead(version, known int, tenant audit.TenantID) error {
	switch _, err := audit.ParseTenantID(string(tenant)); {
	case version < 1:
		return fmt.Errorf("%w: no version", audit.ErrUnreadable)
	case version > known:
		return fmt.Errorf("%w: %d, known are 1 to %d", ErrVersion, version, known)
	case err != nil:
		return fmt.Errorf("%w: no tenant", audit.ErrUnreadable)
	}
	return nil
}

// Unpack unpacks a message. It returns unreadable lines as Poison. It returns
// audit.ErrUnreadable or ErrVersion if the whole body is unreadable.
func Unpack(body string) (Contents, error) {
	var m message
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return Contents{}, fmt.Errorf("%w: not its JSON form", audit.ErrUnreadable)
	}
	if err := checkHead(m.Version, Version, m.Tenant); err != nil {
		return Contents{}, err
	}
	if m.Encoding != encodingZstd {
		return Contents{}, fmt.Errorf("%w: unknown encoding", audit.ErrUnreadable)
	}
	id, err := parseMessageID(m.ID)
	if err != nil {
		return Contents{}, err
	}
	packed, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil {
		return Contents{}, fmt.Errorf("%w: data is not base64", audit.ErrUnreadable)
	}
	lines, err := decoder().DecodeAll(packed, nil)
	if err != nil {
		return Contents{}, fmt.Errorf("%w: data is not zstd of at most %d bytes", audit.ErrUnreadable, maxUnpacked)
	}
	contents := readLines(m.Tenant, lines)
	contents.ID, contents.Traces = id, m.Traces
	return contents, nil
}

// parseMessageID reads what textOf returned. It returns the zero id for "".
func parseMessageID(text string) (id audit.MessageID, err error) {
	raw, err := messageIDEncoding.DecodeString(text)
	if err != nil || len(raw) != 0 && len(raw) != len(id) {
		return id, fmt.Errorf("%w: the id is not base64 of %d bytes", audit.ErrUnreadable, len(id))
	}
	copy(id[:], raw)
	return id, nil
}

func readLines(tenant audit.TenantID, lines []byte) Contents {
	contents := Contents{Tenant: tenant, Size: len(lines), Entries: make([]audit.Entry, 0, bytes.Count(lines, []byte{'\n'}))}
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		entry, err := entryjson.ParseStored(line)
		switch {
		case err != nil:
			contents.Poison = append(contents.Poison, Poison{Line: bytes.Clone(line), Reason: err.Error()})
		case !IsEntryOf(&entry, tenant):
			contents.Poison = append(contents.Poison, Poison{Line: bytes.Clone(line), Reason: "tenant, id or timestamp do not fit the message"})
		default:
			contents.Entries = append(contents.Entries, entry)
		}
	}
	return contents
}

// IsEntryOf reports whether a message of a tenant can have the entry: it is one of the tenant, with an id and the
// timestamp of that id.
func IsEntryOf(e *audit.Entry, tenant audit.TenantID) bool {
	return e.Tenant == tenant && !e.ID.IsZero() && e.Timestamp.UnixMilli() == e.ID.Time().UnixMilli()
}

// PackPoison returns a message with one unreadable line and the reason, for a
// dead-letter queue.
func PackPoison(tenant audit.TenantID, poison Poison) (string, error) {
	return encode(message{Tenant: tenant, Count: 1, Reason: poison.Reason}, append(bytes.Clone(poison.Line), '\n'))
}

// CountOf returns the number of entries that a message says it has, without unpacking it; at least 1.
func CountOf(body string) int {
	_, rest, _ := strings.Cut(body, `"count":`) // the members before it have no such text
	digits := rest
	for i := range rest {
		if rest[i] < '0' || rest[i] > '9' {
			digits = rest[:i]
			break
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 {
		return 1
	}
	return n
}
