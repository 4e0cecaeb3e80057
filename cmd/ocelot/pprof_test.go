package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
)

func TestProfilesAreServedOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.org:0", "127.0.0.1", "[::]:0"} {
		_, err := serveProfiles(&console{err: io.Discard}, address)
		if usage := new(usageError); !errors.As(err, &usage) {
			t.Errorf("%q: got error %v, want a usage error", address, err)
		}
	}
	var out bytes.Buffer
	end, err := serveProfiles(&console{err: &out}, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	url := regexp.MustCompile(`http://\S+`).FindString(out.String())
	response, err := http.Get(url + "goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(body, []byte("TestProfilesAreServedOnLoopbackOnly")) {
		t.Errorf("got %s, want the stack of this test", body)
	}
}

func TestProfilesOfAnotherHostAreRefused(t *testing.T) {
	for host, want := range map[string]int{"127.0.0.1:6060": http.StatusOK, "localhost:6060": http.StatusOK, "rebound.example:6060": http.StatusForbidden} {
		request := httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		request.Host = host
		response := httptest.NewRecorder()
		profiles().ServeHTTP(response, request)
		if response.Code != want {
			t.Errorf("%s: got status %d, want %d", host, response.Code, want)
		}
	}
}
