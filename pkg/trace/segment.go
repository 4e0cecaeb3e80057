package trace

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Recorder sends segments to the daemon of X-Ray, over UDP. A segment that the daemon does not
// get is lost: recording delays and fails nothing. It is safe for concurrent use.
type Recorder struct {
	service string
	conn    net.Conn
}

// NewRecorder returns the recorder of a function that sends to a daemon. address is the value of
// AWS_XRAY_DAEMON_ADDRESS: host:port, or such addresses after "udp:" and "tcp:".
func NewRecorder(address, service string) (*Recorder, error) {
	for part := range strings.FieldsSeq(address) {
		if udp, is := strings.CutPrefix(part, "udp:"); is || !strings.HasPrefix(part, "tcp:") {
			address = udp
			break
		}
	}
	conn, err := net.Dial("udp", address) // sends nothing
	if err != nil {
		return nil, fmt.Errorf("find the daemon of X-Ray: %w", err)
	}
	return &Recorder{service: service, conn: conn}, nil
}

var recorder atomic.Pointer[Recorder]

// SetRecorder sets what records the segments of this process, as slog.SetDefault sets what
// logs; nil: nothing does.
func SetRecorder(r *Recorder) { recorder.Store(r) }

// document is a segment. Its form is that of
// https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html.
type document struct {
	Name      string  `json:"name"`
	ID        string  `json:"id"`
	Trace     string  `json:"trace_id"`
	Parent    string  `json:"parent_id,omitempty"`
	Type      string  `json:"type,omitempty"`      // "subsegment", or none
	Namespace string  `json:"namespace,omitempty"` // "remote" for a call
	Origin    string  `json:"origin,omitempty"`
	Start     float64 `json:"start_time"` // seconds
	End       float64 `json:"end_time"`
	Fault     bool    `json:"fault,omitempty"`
}

// daemonHeader precedes each document.
const daemonHeader = `{"format":"json","version":1}` + "\n"

// send sends a segment of the trace.
func (r *Recorder) send(t Trace, d document, start, end time.Time) {
	var id SpanID
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	d.ID, d.Trace, d.Start, d.End = id.String(), t.ID.String(), seconds(start), seconds(end)
	if t.Parent != (SpanID{}) {
		d.Parent = t.Parent.String()
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	_, _ = r.conn.Write(append([]byte(daemonHeader), text...)) // see Recorder: it may be lost
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// Recording reports whether this process records segments.
func Recording() bool { return recorder.Load() != nil }

// Called records a call to an engine or a service, which is named after it. failed says that the
// other side failed. It costs next to nothing unless the context's trace is sampled and this
// process records segments.
func Called(ctx context.Context, name string, start time.Time, failed bool) {
	t, _ := From(ctx)
	if r := recorder.Load(); t.Sampled && r != nil {
		r.send(t, document{Name: name, Type: "subsegment", Namespace: "remote", Fault: failed}, start, time.Now())
	}
}

// Record records the work of this function in each of its traces that is sampled.
func (w Work) Record(end time.Time) {
	r := recorder.Load()
	if r == nil {
		return
	}
	for _, t := range w.Traces {
		if t.Sampled {
			r.send(t, document{Name: r.service, Origin: "AWS::Lambda::Function"}, w.Start, end)
		}
	}
}
