package localcloud

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// The gateway has API Gateway's limits. The client's subscriptions must stay within them.
func TestLongSubscriptionsPassTheGateway(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	s.respondWith(func(e socketRequest) (response events.APIGatewayProxyResponse, err error) {
		if e.RequestContext.RouteKey == "subscribe" {
			err = s.gateway.Send(t.Context(), e.RequestContext.ConnectionID, []byte(`{"type":"subscribed","cursor":"c"}`))
		}
		response.StatusCode = 200
		return response, err
	})
	c, err := client.New(client.Config{URL: s.server.URL, Token: "e30", Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{1, stream.MaxFrameBytes / 2, stream.MaxFrameBytes, stream.MaxMessageSize - 100} {
		value := strings.Repeat("ü", size/2)
		errStop := errors.New("stop")
		err := c.Stream(t.Context(), client.Subscription{Filter: url.Values{"q": {value}}}, func(e client.Event) error {
			if e.Err != nil {
				t.Errorf("%d bytes: got error %v, want none", size, e.Err)
			}
			return errStop
		})
		if !errors.Is(err, errStop) {
			t.Fatalf("got error %v, want %v", err, errStop)
		}
		if want := `{"action":"subscribe","filter":{"q":["` + value + `"]}}`; s.await(lambdaedge.SocketEventMessage, i+1).Body != want {
			t.Errorf("a subscription of %d bytes arrived changed, want it as it was sent", size)
		}
	}
}

func TestFrameMeterFindsLongFrames(t *testing.T) {
	frame := func(first byte, size int) []byte {
		header := []byte{first, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 0}
		switch {
		case size <= 125:
			header = []byte{first, 0x80 | byte(size)}
		case size <= math.MaxUint16:
			header = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(size))
		default:
			binary.BigEndian.PutUint64(header[2:], uint64(size))
		}
		return append(header, bytes.Repeat([]byte{0xff}, 4+size)...) // the mask, and a payload that looks like headers
	}
	const final, more, text, bin, ping = 0x80, 0, 1, 2, 9
	for _, tt := range []struct {
		name   string
		frames [][]byte
		want   int64
	}{
		{"none", nil, 0},
		{"the largest", [][]byte{frame(final|text, stream.MaxFrameBytes), frame(final|text, 0), frame(final|bin, 125)}, 0},
		{"the first", [][]byte{frame(final|text, stream.MaxFrameBytes+1), frame(final|text, 1)}, 1},
		{"the third", [][]byte{frame(final|text, 126), frame(final|text, 0), frame(final|bin, 1<<16)}, 3},
		{"a part of the second", [][]byte{
			frame(final|text, 125), frame(text, 7), frame(final|ping, 125), frame(more, stream.MaxFrameBytes), frame(more, stream.MaxFrameBytes+1), frame(final|more, 0),
			frame(final|text, 1<<17),
		}, 2},
	} {
		all := bytes.Join(tt.frames, nil)
		for _, size := range []int{1, 3, 4096, len(all) + 1} {
			var m frameMeter
			for part := range slices.Chunk(all, size) {
				m.measure(part)
			}
			if got := m.tooLong.Load(); got != tt.want {
				t.Errorf("%s, read %d bytes at a time: got message %d, want %d", tt.name, size, got, tt.want)
			}
		}
	}
}
