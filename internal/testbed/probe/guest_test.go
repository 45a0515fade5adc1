package probe

import (
	"os"
	"strings"
	"testing"
	"time"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/transcript"
)

// open returns the cache. It skips the test unless a guest was asked for, because the first one is
// fetched and takes a minute.
func open(t *testing.T) *cache.Cache {
	t.Helper()
	testenv.NeedAsked(t, "vhost-scsi", "starts a guest; fetching its kernel takes a minute")
	c, err := cache.Open(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAGuestThatWorksIsSeen(t *testing.T) {
	c := open(t)
	if err := tryGuest(t.Context(), c, testenv.Patience); err != nil {
		t.Error(err)
	}
}

func TestASilentGuestIsRefused(t *testing.T) {
	c := open(t)
	out := transcript.New()
	err := boot(t.Context(), c, out, "", "exit 1; ", testenv.Patience)
	if err == nil || !strings.Contains(err.Error(), "init: exit status 1") {
		t.Errorf("got %v, want the end of the console:\n%s", err, out)
	}
}

func TestAGuestThatDoesNotExitIsRefused(t *testing.T) {
	c := open(t)
	err := boot(t.Context(), c, transcript.New(), "", "sleep 1000; ", time.Second)
	if err == nil || !strings.Contains(err.Error(), "did not exit within 1s") {
		t.Errorf("got %v, want the time limit", err)
	}
}
