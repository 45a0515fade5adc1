package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// serveBlob answers requests for one blob with do, which receives the correct answer.
func serveBlob(digest string, do func(w http.ResponseWriter, r *http.Request, b []byte)) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+digest) {
				h.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, r)
			do(w, r, answer.Body.Bytes())
		})
	}
}

func TestRegistryErrors(t *testing.T) {
	noCredentials(t)
	im := richImage(t)
	layers := must[[]v1.Layer](t)(im.Layers())
	digest := must[v1.Hash](t)(layers[2].Digest()).String()
	config := must[v1.Hash](t)(im.ConfigName()).String()
	for what, c := range map[string]struct {
		digest  string
		do      func(w http.ResponseWriter, r *http.Request, b []byte)
		want    string
		invalid bool
	}{
		"damaged": {digest, func(w http.ResponseWriter, _ *http.Request, b []byte) { w.Write(flipped(bytes.Clone(b))) }, "is damaged", true},
		"truncated, and says so": {digest, func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)/2))
			w.Write(halved(b))
		}, "layer 3 of 3: " + digest + ": transfer stopped", false},
		"the connection breaks": {digest, func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			w.Write(halved(b))
			panic(http.ErrAbortHandler)
		}, "transfer stopped after", false},
		"the blob is gone": {digest, func(w http.ResponseWriter, r *http.Request, b []byte) { http.NotFound(w, r) }, "404", true},
		"endless": {digest, func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Write(b)
			for range 100 {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, "is longer than", true},
		"another configuration": {config, func(w http.ResponseWriter, _ *http.Request, b []byte) { io.WriteString(w, "{}") }, "configuration: ", false},
	} {
		t.Run(what, func(t *testing.T) {
			host := server(t, serveBlob(c.digest, c.do))
			push(t, host+"/app", im)
			err := refused(t, host+"/app", Options{}, c.want)
			if errors.As(err, &InvalidError{}) != c.invalid {
				t.Errorf("%q: is an InvalidError: %v", err, !c.invalid)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		err := refused(t, strings.TrimPrefix(s.URL, "http://")+"/app", Options{}, "connection refused")
		if errors.As(err, &InvalidError{}) {
			t.Errorf("%q is an InvalidError", err)
		}
	})
	t.Run("a large configuration", func(t *testing.T) {
		host := server(t, nil)
		big := imageOf(t, "", v1.Config{Labels: map[string]string{"x": strings.Repeat("x", maxConfig)}})
		push(t, host+"/big", big)
		refused(t, host+"/big", Options{}, "is too long")
	})
}

func TestInterruptedPull(t *testing.T) {
	noCredentials(t)
	im := richImage(t)
	layers := must[[]v1.Layer](t)(im.Layers())
	digest := must[v1.Hash](t)(layers[2].Digest()).String()
	ctx, cancel := context.WithCancel(t.Context())
	host := server(t, serveBlob(digest, func(w http.ResponseWriter, r *http.Request, b []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(halved(b))
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	}))
	push(t, host+"/app", im)
	if err := refusedWith(ctx, t, host+"/app", Options{}, "context canceled"); !errors.Is(err, context.Canceled) || errors.As(err, &InvalidError{}) {
		t.Errorf("got %#v", err)
	}
	// Reading a local file stops too.
	if err := refusedWith(ctx, t, gzipped(t, oldSaved(t, im)), Options{}, "context canceled"); !errors.Is(err, context.Canceled) || errors.As(err, &InvalidError{}) {
		t.Errorf("got %#v", err)
	}
	if err := refusedWith(ctx, t, layoutOf(t, named{what: im}), Options{}, "context canceled"); !errors.Is(err, context.Canceled) || errors.As(err, &InvalidError{}) {
		t.Errorf("got %#v", err)
	}
}
