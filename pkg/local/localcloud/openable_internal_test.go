package localcloud

import (
	"net"
	"testing"
)

func TestOpenable(t *testing.T) {
	for _, tt := range []struct{ network, listen, host string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", ":0", "127.0.0.1"},
		{"tcp4", "0.0.0.0:0", "127.0.0.1"},
		{"tcp", "[::1]:0", "::1"},
		{"tcp6", "[::]:0", "::1"}, // not those of IPv4
	} {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), tt.network, tt.listen)
			if err != nil {
				t.Skipf("this machine does not listen there: %v", err)
			}
			defer listener.Close()
			got := openable(t.Context(), listener.Addr())
			_, port, err := net.SplitHostPort(listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if want := net.JoinHostPort(tt.host, port); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
