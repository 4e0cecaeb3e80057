package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// reach returns an error if there cannot be a service at the address. A client tries again for half
// a minute, so that a restart of the service does not end a command that is under way. A service
// that is not there when a command begins is reported at once.
func (f *addressFlags) reach() error {
	if problem := unreachable(f.URL); problem != "" {
		return fmt.Errorf("%s name another address with --url, OCELOT_URL or --profile", problem)
	}
	return nil
}

// connectTimeout bounds the check whether a service listens.
const connectTimeout = time.Second

// windowsRefused is what Windows says about a port that nobody listens on (WSAECONNREFUSED).
const windowsRefused = syscall.Errno(10061)

// unreachable says why no attempt to connect to an address can succeed, as the beginning of a hint.
// It returns "" for failures that can pass, which it leaves to the client. It asks nobody if there is
// a proxy in between.
func unreachable(address string) string {
	request, err := http.NewRequest(http.MethodGet, address, http.NoBody)
	if err != nil {
		return ""
	}
	if proxy, err := http.ProxyFromEnvironment(request); err != nil || proxy != nil {
		return ""
	}
	err = connect(request.URL)
	var (
		unknown *net.DNSError
		plain   tls.RecordHeaderError
		invalid *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, windowsRefused):
		return fmt.Sprintf("no service listens at %s. Start one with ocelot dev, or", address)
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return fmt.Sprintf("there is no host %s:", request.URL.Hostname())
	case errors.As(err, &plain):
		return fmt.Sprintf("%s does not speak HTTPS, perhaps HTTP:", address)
	case errors.As(err, &invalid):
		return fmt.Sprintf("the certificate of %s is not trusted (%s):", request.URL.Host, invalid.Err)
	}
	return ""
}

// connect opens a connection as a request does, and closes it again.
func connect(address *url.URL) error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	port := cmp.Or(address.Port(), map[string]string{"http": "80", "https": "443"}[address.Scheme])
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(address.Hostname(), port))
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }() // nothing was sent
	if address.Scheme != "https" {
		return nil
	}
	return tls.Client(connection, &tls.Config{ServerName: address.Hostname()}).HandshakeContext(ctx)
}
