package awsconfig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
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
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	sum := sha256.Sum256(body)
	if err := signer().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), service, region, time.Now()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

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

// Sign signs a request as Sign does.
func (s *S3Signer) Sign(ctx context.Context, r *http.Request, body []byte) error {
	credentials, err := s.cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", digest)
	if err := s.signer.SignHTTP(ctx, credentials, r, digest, s3, s.cfg.Region, time.Now()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
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
