package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// serveProfiles serves the profiles of this process until end is called. Profiles have no
// credentials, so that the address must be a loopback one.
func serveProfiles(con *console, address string) (end func(), err error) {
	if !isLoopback(address) {
		return nil, usagef("--pprof %s: the address must be a loopback one, for example 127.0.0.1:6060", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve profiles: %w", err)
	}
	server := &http.Server{Handler: profiles(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			con.report("ocelot: no more profiles: %s", err)
		}
	}()
	con.report("Profiles: http://%s/debug/pprof/", listener.Addr())
	return func() { _ = server.Close() }, nil // the process ends
}

// profiles refuses requests that name another host. A page that a browser has open could
// otherwise read profiles by a name that resolves to this machine.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "ask by the loopback address", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isLoopback reports whether the host of an address with a port is localhost or an address
// of the loopback interface.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
