package awsconfig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signer is shared: it caches the keys that it derives.
var signer = sync.OnceValue(func() *v4.Signer { return v4.NewSigner() })

// Sign signs a request with Signature Version 4 for a service in a region. It is for
// services whose SDK client is not linked. body is the request's body.
func Sign(ctx context.Context, cfg aws.Config, r *http.Request, body []byte, service, region string) error {
	return sign(ctx, signer(), cfg, r, digestOf(body), service, region)
}

// digestOf returns the digest of a body as signatures have it.
func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func sign(ctx context.Context, s *v4.Signer, cfg aws.Config, r *http.Request, digest, service, region string) error {
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if err := s.SignHTTP(ctx, credentials, r, digest, service, region, time.Now()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// Escape escapes a segment of a path in the way of Signature Version 4: everything but letters,
// digits and "-._~".
func Escape(segment string) string { return strings.ReplaceAll(url.QueryEscape(segment), "+", "%20") }

// S3Signer signs requests to S3, which differs from other services: the path in a signature is
// escaped once, as it is sent.
type S3Signer struct {
	cfg    aws.Config
	signer *v4.Signer
}

// NewS3Signer returns a signer with the credentials and the region of the settings.
func NewS3Signer(cfg aws.Config) *S3Signer {
	return &S3Signer{cfg, v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })}
}

const s3 = "s3"

// Sign signs a request as the function of this name does.
func (s *S3Signer) Sign(ctx context.Context, r *http.Request, body []byte) error {
	digest := digestOf(body)
	r.Header.Set("X-Amz-Content-Sha256", digest)
	return sign(ctx, s.signer, s.cfg, r, digest, s3, s.cfg.Region)
}

// Presign returns the URL of a request whose signature is in its query. The query's X-Amz-Expires
// says for how many seconds it is valid.
func (s *S3Signer) Presign(ctx context.Context, r *http.Request) (string, error) {
	credentials, err := s.cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	signed, _, err := s.signer.PresignHTTP(ctx, credentials, r, "UNSIGNED-PAYLOAD", s3, s.cfg.Region, time.Now())
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return signed, nil
}

// Domain returns the domain of the services in a region, by the beginning of its name, as in the
// SDKs' partitions.json.
func Domain(region string) string {
	for _, partition := range []struct{ prefix, domain string }{
		{"cn-", "amazonaws.com.cn"}, {"eusc-", "amazonaws.eu"}, {"us-iso-", "c2s.ic.gov"}, {"us-isob-", "sc2s.sgov.gov"},
		{"eu-isoe-", "cloud.adc-e.uk"}, {"us-isof-", "csp.hci.ic.gov"},
	} {
		if strings.HasPrefix(region, partition.prefix) {
			return partition.domain
		}
	}
	return "amazonaws.com"
}

// Endpoint returns the configured address of a service, by the service's id in the SDK.
// It returns "" for the service's own address.
func Endpoint(ctx context.Context, cfg aws.Config, service string) string {
	for _, source := range cfg.ConfigSources {
		if named, ok := source.(endpoints); ok {
			if address, found, err := named.GetServiceBaseEndpoint(ctx, service); err == nil && found {
				return address
			}
		}
	}
	return aws.ToString(cfg.BaseEndpoint)
}
