package config

import (
	"encoding"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTheSmallestFileHasEveryDefault(t *testing.T) {
	got, err := parseTest(boot + "[[net]]\n[[disk]]\npath = 'a.img'\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Name:    "vm",
		Machine: Machine{VCPUs: 1, Memory: 256 << 20, ShutdownTimeout: Duration{10 * time.Second}, Notify: NotifyAuto},
		Boot:    Boot{Kernel: "/vm/vmlinuz", Protocol: ProtocolAuto},
		Console: Console{Mode: ConsoleStdio},
		Net:     []Net{{ID: "net0", Backend: NetAuto, MAC: got.Net[0].MAC, Queues: 1, QueueSize: 256}},
		Disk:    []Disk{{ID: "disk0", Path: "/vm/a.img", Backend: DiskAuto, Serial: got.Disk[0].Serial, Cache: CacheWriteback, BlockSize: 512}},
		SCSI:    SCSI{Queues: 1, QueueSize: 128},
		Workers: Workers{Count: CountAuto, Sched: SchedOther},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if m := got.Net[0].MAC; m[0]&3 != 2 {
		t.Errorf("derived MAC %s is not a locally administered unicast address", m)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	got, err := parseTest(`
name = "web-1"
[machine]
vcpus = 64
memory = "1T"
shutdown_timeout = "1m30s"
pci_ports = true
notify = "memory"
[boot]
kernel = "/vm/vmlinuz"
initrd = "./initrd.cpio"
cmdline = "root=/dev/sda quiet"
protocol = "pvh"
kaslr = true
[console]
mode = "file"
path = "console.log"
[[net]]
id = "lan"
backend = "vhost"
tap = "tap7"
mac = "52:54:00:AB:cd:ef"
mtu = 9000
queue_size = 1024
queues = 4
affinity = "0,1"
busy_poll = "50us"
[[net]]
queues = "auto"
bridge = "br0"
[[net]]
address = "fd00::1/64"
[[disk]]
id = "root"
path = "a.img"
backend = "vhost-scsi"
readonly = true
serial = "root disk"
cache = "writethrough"
block_size = 4096
[scsi]
queues = "auto"
queue_size = 32
affinity = "7"
[workers]
affinity = "5,2-3,3"
count = "per-queue"
nice = -5
sched = "batch"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Name:    "web-1",
		Machine: Machine{VCPUs: 64, Memory: 1 << 40, ShutdownTimeout: Duration{90 * time.Second}, PCIPorts: true, Notify: NotifyMemory},
		Boot:    Boot{Kernel: "/vm/vmlinuz", Initrd: "/vm/initrd.cpio", Cmdline: "root=/dev/sda quiet", Protocol: ProtocolPVH, KASLR: true},
		Console: Console{Mode: ConsoleFile, Path: "/vm/console.log"},
		Net: []Net{
			{ID: "lan", Backend: NetVhost, Tap: "tap7", MAC: MAC{0x52, 0x54, 0, 0xab, 0xcd, 0xef}, MTU: 9000, Queues: 4, QueueSize: 1024, Affinity: CPUSet{0, 1}, BusyPoll: Duration{50 * time.Microsecond}},
			{ID: "net1", Backend: NetAuto, MAC: got.Net[1].MAC, Bridge: "br0", Queues: QueuesAuto, QueueSize: 256},
			{ID: "net2", Backend: NetAuto, MAC: got.Net[2].MAC, Address: CIDR{netip.MustParsePrefix("fd00::1/64")}, Queues: 1, QueueSize: 256},
		},
		Disk:    []Disk{{ID: "root", Path: "/vm/a.img", Backend: DiskVhostSCSI, ReadOnly: true, Serial: "root disk", Cache: CacheWritethrough, BlockSize: 4096}},
		SCSI:    SCSI{Queues: QueuesAuto, QueueSize: 32, Affinity: CPUSet{7}},
		Workers: Workers{Affinity: CPUSet{2, 3, 5}, Count: CountPerQueue, Nice: -5, Sched: SchedBatch},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	again, err := parseTest(string(got.TOML()))
	if err != nil {
		t.Fatalf("TOML output cannot be parsed: %v\n%s", err, got.TOML())
	}
	if !reflect.DeepEqual(again, got) {
		t.Errorf("TOML output parses to another configuration:\n%s", got.TOML())
	}
}

func TestInlineTablesAndDottedKeysAreTheSameConfiguration(t *testing.T) {
	long, err := parseTest("[boot]\nkernel = 'vmlinuz'\n[machine]\nvcpus = 2\n[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\n")
	if err != nil {
		t.Fatal(err)
	}
	short, err := parseTest("boot.kernel = 'vmlinuz'\nmachine = { vcpus = 2 }\ndisk = [\n { path = 'a.img' }, # one\n { path = 'b.img' },\n]\n")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(long, short) {
		t.Errorf("got %+v\nand %+v", long, short)
	}
}

func TestDerivedAddressesAreStableAndDistinct(t *testing.T) {
	// These values are a promise: a guest keeps its addresses and disk names across versions of
	// minivmm.
	if got := deriveMAC("debian", "net0").String(); got != "e6:78:c3:3b:d9:f1" {
		t.Errorf("derived MAC of debian's net0 changed to %s", got)
	}
	if got := deriveSerial("debian", "disk0"); got != "" && len(got) != 32 {
		t.Errorf("derived serial of debian's disk0 changed to %q", got)
	}
	macs, serials := map[MAC]bool{}, map[Serial]bool{}
	for _, vm := range []Name{"a", "b", "ab"} {
		for _, id := range []Name{"net0", "net1", "bnet0"} {
			macs[deriveMAC(vm, id)], serials[deriveSerial(vm, id)] = true, true
		}
	}
	if len(macs) != 9 || len(serials) != 9 {
		t.Errorf("nine devices have only %d distinct addresses and %d distinct serials", len(macs), len(serials))
	}
}

func TestTheNameComesFromTheFile(t *testing.T) {
	for file, want := range map[string]Name{
		"debian.toml": "debian", "/x/My VM.toml": "my-vm", "web.v2.toml": "web-v2", "--.toml": "vm", ".toml": "vm",
		"é.toml": "vm", strings.Repeat("x", 40) + ".toml": Name(strings.Repeat("x", 32)),
	} {
		if got := deriveName(file); got != want || !isName(string(got)) {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}

func TestScalarsReadWhatTheyWrite(t *testing.T) {
	type scalar interface {
		encoding.TextUnmarshaler
		encoding.TextMarshaler
	}
	for _, tt := range []struct {
		v        scalar
		in, want string
	}{
		{new(Size), "512M", "512M"},
		{new(Size), "1024M", "1G"},
		{new(Size), "3K", "3K"},
		{new(Size), "8388607T", "8388607T"},
		{new(Size), "512", ""},
		{new(Size), "", ""},
		{new(Size), "M", ""},
		{new(Size), "-1M", ""},
		{new(Size), "+1M", ""},
		{new(Size), "1.5G", ""},
		{new(Size), "1 G", ""},
		{new(Size), "512m", ""},
		{new(Size), "512MiB", ""},
		{new(Size), "1B", ""},
		{new(Size), "8388608T", ""},
		{new(Duration), "90s", "1m30s"},
		{new(Duration), "0", "0s"},
		{new(Duration), "-1ns", ""},
		{new(MAC), "02:AA:bb:00:00:01", "02:aa:bb:00:00:01"},
		{new(MAC), "02-aa-bb-00-00-01", ""},
		{new(MAC), "02:aa:bb:00:00:0g", ""},
		{new(MAC), "00:00:00:00:00:00", ""},
		{new(CPUSet), "0", "0"},
		{new(CPUSet), "1023,0-2,1,4", "0-2,4,1023"},
		{new(CPUSet), "1024", ""},
		{new(CPUSet), "", ""},
		{new(CPUSet), "1,", ""},
		{new(CPUSet), "1-2-3", ""},
		{new(CPUSet), "-1", ""},
		{new(CIDR), "10.0.2.1/24", "10.0.2.1/24"},
		{new(CIDR), "10.0.0.0/31", "10.0.0.0/31"},
		{new(CIDR), "fd00::1/64", "fd00::1/64"},
		{new(CIDR), "127.0.0.1/8", ""},
		{new(CIDR), "224.0.0.1/8", ""},
		{new(CIDR), "10.0.2.1/33", ""},
		{new(CIDR), "10.0.2.1/0", ""},
	} {
		err := tt.v.UnmarshalText([]byte(tt.in))
		if (err == nil) != (tt.want != "") {
			t.Errorf("%T %q: got error %v", tt.v, tt.in, err)
			continue
		}
		if err != nil {
			continue
		}
		if got, _ := tt.v.MarshalText(); string(got) != tt.want {
			t.Errorf("%T %q: got %s, want %s", tt.v, tt.in, got, tt.want)
		}
	}
}

func TestLoadResolvesPathsRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	kernel, disk := write("k", "kernel"), write("d.img", strings.Repeat("x", 512))
	if err := os.Link(disk, filepath.Join(dir, "same.img")); err != nil {
		t.Fatal(err)
	}
	cfg, err := Resolve(write("one.toml", "boot.kernel = 'k'\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(cfg.Boot.Kernel) != kernel || cfg.Name != "one" {
		t.Errorf("got %+v", cfg)
	}
	two := write("two.toml", "boot.kernel = 'k'\ndisk = [{path='d.img'}, {path='same.img'}]\n")
	if _, err = Resolve(two, nil); err == nil || !strings.Contains(err.Error(), `two.toml:2:31: error: disk[1].path: "`+filepath.Join(dir, "same.img")+`" is the same file as disk[0].path`) {
		t.Errorf("two names of one file: got %v", err)
	}

	t.Chdir(dir)
	if cfg, err = Resolve("one.toml", nil); err != nil || string(cfg.Boot.Kernel) != kernel {
		t.Errorf("a relative name: got %+v, %v", cfg, err)
	}
	if cfg, err = Parse("sub/../three.toml", []byte("boot.kernel = 'k'")); err != nil || string(cfg.Boot.Kernel) != kernel || cfg.Name != "three" {
		t.Errorf("Parse: got %+v, %v", cfg, err)
	}
}

func TestSettingsWinOverTheFile(t *testing.T) {
	file := "name = 'f'\n[machine]\nvcpus = 2\nmemory = '1G'\n[boot]\nkernel = 'vmlinuz'\n[console]\nmode = 'file'\npath = 'x.log'\n[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\n"
	set := func(s ...Setting) (*Config, error) {
		return resolve(source{name: "/vm/vm.toml", data: []byte(file), file: true, settings: s, stat: testStat, raw: testRaw})
	}
	cfg, err := set(
		Setting{Flag: "--name", Key: "name", Value: "g"},
		Setting{Flag: "--cpus", Key: "machine.vcpus", Value: "3"},
		Setting{Flag: "--console", Key: "console", Clear: true},
		Setting{Flag: "--console", Key: "console.mode", Value: "null"},
		Setting{Flag: "--disk", Key: "disk.0.path", Value: "/vm/block"},
		Setting{Flag: "--disk", Key: "disk.0.readonly", Value: "on"},
		Setting{Flag: "--net", Key: "net.0.mtu", Value: "1400"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "g" || cfg.Machine.VCPUs != 3 || cfg.Machine.Memory != 1<<30 || cfg.Console != (Console{Mode: ConsoleNull}) {
		t.Errorf("got %+v", cfg)
	}
	if len(cfg.Disk) != 1 || cfg.Disk[0].Path != "/vm/block" || !cfg.Disk[0].ReadOnly || len(cfg.Net) != 1 || cfg.Net[0].MTU != 1400 {
		t.Errorf("got %+v", cfg)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = set(Setting{Flag: "--kernel", Key: "boot.kernel", Value: "vmlinuz"}); err == nil || !strings.Contains(err.Error(), `--kernel: error: boot.kernel: "`+wd+`/vmlinuz"`) {
		t.Errorf("relative path of a flag is not relative to the working directory: %v", err)
	}
	if cfg, err = set(Setting{Flag: "--disk", Key: "disk", Clear: true}); err != nil || len(cfg.Disk) != 0 {
		t.Errorf("no disks: got %+v, %v", cfg, err)
	}

	file = strings.Replace(file, "vcpus = 2", "vcpus = 99", 1)
	_, err = set(
		Setting{Flag: "--memory", Key: "machine.memory", Value: "512"},
		Setting{Flag: "--disk a", Key: "disk.0.path", Value: "/vm/a.img"},
		Setting{Flag: "--disk a", Key: "disk.0.readonly", Value: "maybe"},
		Setting{Flag: "--disk b", Key: "disk.1.serail", Value: "x"},
		Setting{Flag: "--net", Key: "net.0.mtu", Value: "big"},
	)
	want := `/vm/vm.toml:3:9: error: machine.vcpus: 99 is out of range: want 1 to 64
--memory: error: machine.memory: size "512" has no unit: write "512M" for MiB, or "512K", "512G"
--disk a: error: disk[0].readonly must be on or off, not "maybe"
--disk b: error: disk[1].path is missing: set it to a disk image or block device, like path = "disk.img"
--disk b: error: unknown key "serail" in disk[1]; did you mean "serial"?
--net: error: net[0].mtu must be a whole number, not "big"`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err.(*Error).FlagsOnly() {
		t.Error("FlagsOnly is true despite a problem in the file")
	}
}

func TestSettingsAloneAreAConfiguration(t *testing.T) {
	cfg, err := resolve(source{stat: func(name string) (os.FileInfo, error) { return testStat("/vm/vmlinuz") }, raw: testRaw,
		settings: []Setting{{Flag: "--kernel", Key: "boot.kernel", Value: "k"}}})
	wd, _ := os.Getwd()
	if err != nil || string(cfg.Boot.Kernel) != filepath.Join(wd, "k") || cfg.Name != "vm" {
		t.Errorf("got %+v, %v", cfg, err)
	}
	if cfg, err = resolve(source{stat: testStat, raw: testRaw}); err != nil || cfg.Boot.Kernel != "" || cfg.Name != "vm" {
		t.Errorf("no settings: got %+v, %v", cfg, err)
	}
}

func TestKernelsAndImagesAreFilesOrNames(t *testing.T) {
	for value, want := range map[string]struct {
		stored string
		ok     bool
	}{"": {"", true}, "kernel = 'store:6.12'": {"6.12", true}, "kernel = 'store:'": {"", true}, "kernel = 'vmlinuz'": {"/vm/vmlinuz", false}} {
		cfg, err := parseTest("[boot]\n" + value)
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := cfg.Boot.Kernel.Stored(); name != want.stored || ok != want.ok {
			t.Errorf("%s: got %q, %v", value, name, ok)
		}
	}
	for value, want := range map[string]Image{
		"oci:layout:v1": "oci:/vm/layout:v1", "oci:/abs": "oci:/abs", "./x.tar": "/vm/x.tar", "../x": "/x", "/x/../y": "/y",
		"a.img": "a.img", "debian:12": "debian:12", "example.org/a/b@sha256:00": "example.org/a/b@sha256:00",
	} {
		cfg, err := parseTest("image = '" + value + "'")
		if err != nil || cfg.Image != want {
			t.Errorf("%s: got %q, %v, want %q", value, cfg.Image, err, want)
		}
	}
}

func TestAnImageUsesOneOfTheDisks(t *testing.T) {
	for n, want := range map[int]string{maxDisks - 1: "", maxDisks: "error: disk: 64 entries are too many with an image: at most 63"} {
		d := &decoder{report: &report{}}
		(&checker{d}).imageDisk(&Config{Image: "x", Disk: make([]Disk, n)})
		got := ""
		if err := d.err(); err != nil {
			got = err.Error()
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%d disks: got %q, want %q", n, got, want)
		}
	}
}

func TestSerialsWithDifferentDigitsAreAccepted(t *testing.T) {
	for first, second := range map[string]string{"web-1": "web-2", "tools": "tools-1", "1": "01", "0123456789abcdef01234567-1": "0123456789abcdef01234567-2"} {
		if _, err := parseTest(boot + "[[disk]]\npath = 'a.img'\nserial = '" + first + "'\n[[disk]]\npath = 'b.img'\nserial = '" + second + "'\n"); err != nil {
			t.Error(err)
		}
	}
}

func TestOneBackendAppliesToAllDisks(t *testing.T) {
	for disks, want := range map[string]DiskBackend{
		"": DiskAuto,
		"[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\n":                                          DiskAuto,
		"[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\nbackend = 'inprocess'\n":                   DiskInProcess,
		"[[disk]]\npath = 'a.img'\nbackend = 'vhost-scsi'\n[[disk]]\npath = 'b.img'\n":                  DiskVhostSCSI,
		"[[disk]]\npath = 'a.img'\nbackend = 'inprocess'\n[[disk]]\npath = 'b.img'\nbackend = 'auto'\n": DiskInProcess,
	} {
		cfg, err := parseTest(boot + disks)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.DiskBackend(); got != want {
			t.Errorf("%s: %q, want %q", disks, got, want)
		}
	}
}
