package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// testFiles are the files that exist for the configurations of the tests, under /vm.
var testFiles = fstest.MapFS{
	"vm/vmlinuz":     {Data: []byte("kernel")},
	"vm/initrd.cpio": {Data: []byte("initrd")},
	"vm/a.img":       {Data: make([]byte, 4096)},
	"vm/b.img":       {Data: make([]byte, 4096)},
	"vm/odd.img":     {Data: make([]byte, 1000)},
	"vm/sectors.img": {Data: make([]byte, 1536)},
	"vm/empty.img":   {},
	"vm/folder/x":    {},
	"vm/fifo":        {Mode: fs.ModeNamedPipe},
	"vm/block":       {Mode: fs.ModeDevice},
	"vm/odd.qcow2":   {Data: make([]byte, 1000)},
	"vm/char":        {Mode: fs.ModeDevice | fs.ModeCharDevice},
}

func testStat(name string) (fs.FileInfo, error) {
	return fs.Stat(testFiles, strings.TrimPrefix(filepath.Clean(name), "/"))
}

func testRaw(name string) error {
	if strings.HasSuffix(name, ".qcow2") {
		return errors.New(name + ": a qcow2 image")
	}
	return nil
}

func parseTest(data string) (*Config, error) {
	return resolve(source{name: "/vm/vm.toml", data: []byte(data), file: true, stat: testStat, raw: testRaw})
}

const boot = "boot.kernel = 'vmlinuz'\n" // a first line after which no key is missing

func TestEveryProblemIsReportedWithItsPosition(t *testing.T) {
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	for _, tt := range []struct {
		name, file string
		want       []string // line:col: then the start of the text
	}{
		// the text itself
		{"no value", boot + "name =\n", []string{"2:7: expected value"}},
		{"no equals sign", boot + "name 'x'\n", []string{"2:6: expected '.' or '='"}},
		{"text without quotes", "[boot]\nkernel = vmlinuz\n", []string{"2:10: expected value but found \"vmlinuz\""}},
		{"a string that does not end", boot + "name = \"x\n[machine]\nvcpus = 0\n", []string{"2:10: strings cannot contain newlines", "4:9: machine.vcpus: 0 is out of range: want 1 to 64"}},
		{"a bad escape", boot + `name = "a\qb"`, []string{`2:9: invalid escape`}},
		{"several statements that cannot be read", boot + "name = x\nname2 'y'\n[machine]\nvcpus = 99\nmemory = 1K\n", []string{"2:8: expected value", "3:7: expected '.' or '='", "5:9: machine.vcpus: 99", "6:11: expected a top-level item to end"}},
		{"a header that does not end", boot + "[machine\nvcpus = 99\n", []string{"2:9: expected '.' or ']'"}},
		{"an empty header", boot + "[]\n", []string{"2:2: unexpected end of table name"}},
		{"text after a header", boot + "[machine] vcpus = 1\n", []string{"2:11: expected a top-level item to end"}},
		{"an array that does not end", boot + "net = [ { id = 'a' },\n", []string{"2:22: unexpected EOF"}},
		{"a multi-line string that does not end", boot + "name = '''x\n\n", []string{"3:1: unexpected EOF"}},
		{"a control character", boot + "name = 'a\x01'\n", []string{"2:10: character 0x01 is a control character"}},
		{"a lone carriage return", boot + "name = 'a'\rx\n", []string{"2:11: character 0x0d is a control character"}},
		{"a byte that is not UTF-8", boot + "# \xff\n", []string{"2:3: byte 0xff is not UTF-8"}},
		{"UTF-16", "\xff\xfeb\x00", []string{"1:1: byte 0xff is not UTF-8"}},
		{"a leading zero", boot + "machine.vcpus = 04\n", []string{"2:17: invalid integer \"04\""}},
		{"a number beyond 64 bits", boot + "machine.vcpus = 99999999999999999999\n", []string{"2:17: 99999999999999999999 is out of range"}},
		{"too many levels of arrays", boot + "name = " + many("[", 17) + many("]", 17), []string{"2:24: values are nested deeper than 16"}},
		{"a hundred thousand levels", boot + "name = " + many("[", 100000), []string{"2:24: values are nested deeper than 16"}},
		{"too many levels of inline tables", boot + "name = " + many("{a=", 20) + "1" + many("}", 20), []string{"2:56: values are nested deeper than 16"}},
		{"a key of too many parts", boot + "a.b.c.d.e.f.g.h.i = 1\n", []string{"2:17: a key has more than 8 parts"}},
		{"a header of too many parts", boot + "[" + many("a.", 100000) + "a]\n", []string{"2:18: a key has more than 8 parts"}},
		{"a file too large", boot + many("# comment\n", 104860), []string{"1:1: the file is larger than 1024 KiB"}},

		// set twice
		{"a key twice", boot + "[machine]\nvcpus = 1\nmemory = '64M'\nvcpus = 2\n", []string{"5:1: machine.vcpus is set twice, first on line 3"}},
		{"a key twice, once dotted", "[boot]\nkernel = 'vmlinuz'\n\n  kernel = 'vmlinuz'", []string{"4:3: boot.kernel is set twice, first on line 2"}},
		{"a key twice and a wrong value", boot + "name = 'a'\nname = 'b'\nmachine.vcpus = 0\n", []string{"3:1: name is set twice, first on line 2", "4:17: machine.vcpus: 0"}},
		{"a key twice in an entry", boot + "[[net]]\nmtu = 68\nmtu = 69\n", []string{"4:1: net[0].mtu is set twice, first on line 3"}},
		{"a key twice in an inline table", boot + "net = [{mtu = 68, mtu = 70}]\n", []string{"2:19: net[0].mtu is set twice, first on line 2"}},
		{"a quoted key twice", boot + "name = 'a'\n\"n\\u0061me\" = 'b'\n", []string{"3:1: name is set twice, first on line 2"}},
		{"a table twice", boot + "[machine]\nvcpus = 1\n[machine]\nmemory = 1\n", []string{"4:1: [machine] is set twice, first on line 2"}},
		{"a table and a list", boot + "[net]\n[[net]]\n", []string{"3:"}},

		// unknown keys
		{"a misspelled key", boot + "[machine]\nvcpu = 1\n", []string{`3:1: unknown key "vcpu" in machine; did you mean "vcpus"?`}},
		{"two letters swapped", boot + "[machine]\n  mmeory = '64M'\n", []string{`3:3: unknown key "mmeory" in machine; did you mean "memory"?`}},
		{"a key in the wrong case", boot + "[machine]\nVCPUs = 1\n", []string{`3:1: unknown key "VCPUs" in machine: keys are lower case, write "vcpus"`}},
		{"a table in the wrong case", boot + "[Machine]\nvcpus = 1\n", []string{`2:2: unknown key "Machine": keys are lower case, write "machine"`}},
		{"another tool's key", boot + "[machine]\nmem_size_mib = 128\n", []string{`3:1: unknown key "mem_size_mib" in machine; did you mean "memory"?`}},
		{"a key of another table", boot + "[machine]\nkernel = 'vmlinuz'\n", []string{`3:1: unknown key "kernel" in machine; it belongs in [boot]`}},
		{"a key of a list", boot + "[machine]\nmac = 'x'\n", []string{`3:1: unknown key "mac" in machine; it belongs in [[net]]`}},
		{"a key of a table at the top", boot + "vcpus = 3\n", []string{`2:1: unknown key "vcpus"; it belongs in [machine]`}},
		{"the name below a table", "[boot]\nkernel = 'vmlinuz'\nname = 'x'\n", []string{`3:1: unknown key "name" in boot; it belongs in the top level`}},
		{"a key without a similar one", boot + "[[disk]]\npath = 'a.img'\nzzzzzzz = 1\n", []string{`4:1: unknown key "zzzzzzz" in disk[0]`}},
		{"an unknown key in the second of three entries", boot + "[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\nserail = 'x'\n[[disk]]\npath = 'block'\n", []string{`6:1: unknown key "serail" in disk[1]; did you mean "serial"?`}},
		{"an unknown table in a known one", boot + "[machine.cpu]\nx = 1\n", []string{`2:10: unknown key "cpu" in machine`}},
		{"an unknown list", boot + "[[nett]]\nx = 1\n", []string{`2:3: unknown key "nett"; did you mean "net"?`}},
		{"an unknown key of an inline table", boot + "machine = { vcpus = 1, mem = '64M' }\n", []string{`2:24: unknown key "mem" in machine; did you mean "memory"?`}},
		{"a key with odd characters", boot + "\"a \\u001b b\" = 1\n", []string{`2:1: unknown key "a \x1b b"`}},
		{"an empty key", boot + "\"\" = 1\n", []string{`2:1: unknown key ""`}},
		{"an unknown key before one with a wrong value", boot + "foo = 1\nmachine.vcpus = 0\n[bar]\n", []string{`2:1: unknown key "foo"`, "3:17: machine.vcpus: 0", `4:2: unknown key "bar"`}},

		// wrong types
		{"a bare number as a size", boot + "[machine]\nmemory = 512\n", []string{`3:10: machine.memory must be a string with a unit, like "512M", not the number 512`}},
		{"a fraction as a size", boot + "[machine]\nmemory = 0.5\n", []string{`3:10: machine.memory must be a string like "512M", not the number 0.5`}},
		{"a string as a number", boot + "[machine]\nvcpus = \"2\"\n", []string{`3:9: machine.vcpus must be a whole number without quotes, not the string "2"`}},
		{"a fraction as a number", boot + "machine.vcpus = 1.5\n", []string{"2:17: machine.vcpus must be a whole number, not the number 1.5"}},
		{"a number as a string", boot + "name = 1\n", []string{"2:8: name must be a string, not the number 1"}},
		{"a string as a boolean", boot + "[[disk]]\npath = 'a.img'\nreadonly = 'yes'\n", []string{`4:12: disk[0].readonly must be true or false without quotes, not the string "yes"`}},
		{"a number as a path", "[boot]\nkernel = 1\n", []string{"2:10: boot.kernel must be a string in quotes, not the number 1"}},
		{"a list as a string", boot + "name = ['a']\n", []string{"2:8: name must be a string, not a list"}},
		{"a date as a string", boot + "name = 2024-01-02 03:04:05Z\n", []string{"2:8: name must be a string, not a date"}},
		{"a value as a table", boot + "machine = 4\n", []string{"2:11: machine must be a table, [machine], not the number 4"}},
		{"a list as a table", boot + "[[machine]]\nvcpus = 2\n", []string{"2:1: machine must be a table, [machine], not a list"}},
		{"a table as a list", boot + "[net]\nmtu = 1500\n", []string{"2:1: net must be a list of tables, [[net]], not a table: write [[net]] with two brackets"}},
		{"a number as a list", boot + "disk = 1\n", []string{"2:8: disk must be a list of tables, [[disk]], not the number 1"}},
		{"a string in a list of tables", boot + "disk = [ { path = 'a.img' }, 'b.img' ]\n", []string{`2:30: disk[1] must be a table, not the string "b.img"`}},
		{"a table as a value", boot + "[machine.memory]\nsize = 1\n", []string{"2:1: machine.memory must be a string like \"512M\", not a table"}},

		// wrong values
		{"a size without a unit", boot + "[machine]\nmemory = '512'\n", []string{`3:10: machine.memory: size "512" has no unit: write "512M"`}},
		{"a size with a unit of another kind", boot + "[machine]\nmemory = '512MB'\n", []string{`3:10: machine.memory: size "512MB" has an unknown unit: write "512M"`}},
		{"an invalid size", boot + "[machine]\nmemory = 'lots'\n", []string{`3:10: machine.memory: "lots" is not a size`}},
		{"a size too large for 64 bits", boot + "[machine]\nmemory = '99999999T'\n", []string{`3:10: machine.memory: size "99999999T" is too large`}},
		{"too little memory", boot + "[machine]\nmemory = '63M'\n", []string{"3:10: machine.memory: 63M is too small: at least 64M"}},
		{"too much memory", boot + "[machine]\nmemory = '2T'\n", []string{"3:10: machine.memory: 2T is too large: at most 1T"}},
		{"half a page", boot + "[machine]\nmemory = '131074K'\n", []string{"3:10: machine.memory: 131074K is not a multiple of the page size, 4K"}},
		{"too many vcpus", boot + "[machine]\nvcpus = 65\n", []string{"3:9: machine.vcpus: 65 is out of range: want 1 to 64"}},
		{"a negative number of vcpus", boot + "[machine]\nvcpus = -1\n", []string{"3:9: machine.vcpus: -1 is out of range: want 1 to 64"}},
		{"a duration without a unit", boot + "machine.shutdown_timeout = '10'\n", []string{`2:28: machine.shutdown_timeout: "10" is not a duration`}},
		{"a bare number as a duration", boot + "machine.shutdown_timeout = 10\n", []string{`2:28: machine.shutdown_timeout must be a string like "10s"`}},
		{"a negative duration", boot + "machine.shutdown_timeout = '-1s'\n", []string{`2:28: machine.shutdown_timeout: duration "-1s" is negative`}},
		{"a duration too long", boot + "machine.shutdown_timeout = '2h'\n", []string{"2:28: machine.shutdown_timeout: 2h0m0s is too long"}},
		{"a name with capitals", boot + "name = 'Web'\n", []string{`2:8: name: "Web" is not a valid name`}},
		{"an empty name", boot + "name = ''\n", []string{`2:8: name: "" is not a valid name`}},
		{"a name too long", boot + "name = '" + many("a", 33) + "'\n", []string{"2:8: name: "}},
		{"a missing kernel", "[boot]\nkernel = 'nokernel'\n", []string{`2:10: boot.kernel: "/vm/nokernel": file does not exist`}},
		{"a folder as a kernel", "[boot]\nkernel = 'folder'\n", []string{`2:10: boot.kernel: "/vm/folder" is not a regular file`}},
		{"an empty image", "image = ''\n", []string{"1:9: image: path is empty"}},
		{"an empty layout", "image = 'oci:'\n", []string{"1:9: image: path is empty"}},
		{"an image that is a list", "image = ['a']\n", []string{"1:9: image must be a string in quotes"}},
		{"an empty path", "[boot]\nkernel = ''\n", []string{"2:10: boot.kernel: path is empty"}},
		{"a path with a NUL", "[boot]\nkernel = \"a\\u0000\"\n", []string{`2:10: boot.kernel: path "a\x00" contains a NUL`}},
		{"a missing initrd", "[boot]\nkernel = 'vmlinuz'\ninitrd = 'x'\n", []string{`3:10: boot.initrd: "/vm/x": file does not exist`}},
		{"a command line with a newline", "[boot]\nkernel = 'vmlinuz'\ncmdline = \"a\\nb\"\n", []string{"3:11: boot.cmdline: \"a\\nb\" may contain only printable"}},
		{"a command line too long", "[boot]\nkernel = 'vmlinuz'\ncmdline = '" + many("x", 2048) + "'\n", []string{"3:11: boot.cmdline: 2048 bytes are too long"}},
		{"an unknown console mode", boot + "[console]\nmode = 'stdoi'\n", []string{`3:8: console.mode: unknown value "stdoi": want "stdio", "null" or "file"; did you mean "stdio"?`}},
		{"a console file without a path", boot + "[console]\nmode = 'file'\n", []string{`3:8: console.mode "file" requires console.path`}},
		{"a size for a console without a file", boot + "[console]\nsize = '1M'\n", []string{`3:1: console.size applies only to mode "file", but mode is "stdio"`}},
		{"a small console", boot + "[console]\nmode = 'file'\npath = 'x.log'\nsize = '1K'\n", []string{`5:8: console.size: 1K is too small: at least 64K`}},
		{"a path for a console without a file", boot + "[console]\npath = 'x.log'\n", []string{`3:1: console.path applies only to mode "file", but mode is "stdio"`}},
		{"a console file in a missing folder", boot + "[console]\nmode = 'file'\npath = 'none/x.log'\n", []string{`4:8: console.path: "/vm/none": file does not exist`}},
		{"a console file that is a folder", boot + "[console]\nmode = 'file'\npath = 'folder'\n", []string{`4:8: console.path: "/vm/folder" is a folder`}},
		{"a console file over the disk", boot + "[console]\nmode = 'file'\npath = 'a.img'\n[[disk]]\npath = 'a.img'\n", []string{`4:8: console.path: "/vm/a.img" is also disk[0].path`}},

		// net
		{"an unknown backend", boot + "[[net]]\nbackend = 'slirp'\n", []string{`3:11: net[0].backend: unknown value "slirp": want "auto", "vhost" or "user"`}},
		{"an interface name too long", boot + "[[net]]\ntap = 'abcdefghijklmnop'\n", []string{"3:7: net[0].tap: interface name \"abcdefghijklmnop\" is longer than 15"}},
		{"an interface name with a slash", boot + "[[net]]\ntap = 'a/b'\n", []string{`3:7: net[0].tap: interface name "a/b" contains a character`}},
		{"a template as an interface name", boot + "[[net]]\nbridge = 'br%d'\n", []string{`3:10: net[0].bridge: interface name "br%d" contains a character`}},
		{"an invalid MAC", boot + "[[net]]\nmac = '52:54:00:12:34'\n", []string{`3:7: net[0].mac: "52:54:00:12:34" is not a MAC address`}},
		{"a multicast MAC", boot + "[[net]]\nmac = '01:00:5e:00:00:01'\n", []string{"3:7: net[0].mac: MAC address \"01:00:5e:00:00:01\" is a multicast address"}},
		{"an MTU too small", boot + "[[net]]\nmtu = 67\n", []string{"3:7: net[0].mtu: 67 is out of range: want 68 to 65535"}},
		{"an MTU of 0", boot + "[[net]]\nmtu = 0\n", []string{"3:7: net[0].mtu: 0 is out of range: want 68 to 65535"}},
		{"an MTU of the wrong type", boot + "[[net]]\nmtu = '9000'\n", []string{`3:7: net[0].mtu must be a whole number without quotes`}},
		{"an address without a length", boot + "[[net]]\naddress = '10.0.2.1'\n", []string{`3:11: net[0].address: address "10.0.2.1" has no network length: write "10.0.2.1/24"`}},
		{"an invalid address", boot + "[[net]]\naddress = 'here'\n", []string{`3:11: net[0].address: "here" is not an address`}},
		{"a network as an address", boot + "[[net]]\naddress = '10.0.2.0/24'\n", []string{`3:11: net[0].address: address "10.0.2.0/24" is the network itself: write the host's own address, like "10.0.2.1/24"`}},
		{"a broadcast address", boot + "[[net]]\naddress = '10.0.2.255/24'\n", []string{"3:11: net[0].address: address \"10.0.2.255/24\" is its network's broadcast"}},
		{"a queue size that is not a power of two", boot + "[[net]]\nqueue_size = 300\n", []string{"3:14: net[0].queue_size: 300 is not a power of two from 32 to 1024"}},
		{"a tap with an address and a bridge", boot + "[[net]]\naddress = '10.0.2.1/24'\nbridge = 'br0'\ntap = 'tap0'\n", []string{"3:1: net[0].address applies only to a tap that minivmm creates", "4:1: net[0].bridge applies only to a tap that minivmm creates"}},
		{"an address and a bridge", boot + "[[net]]\nbridge = 'br0'\naddress = '10.0.2.1/24'\n", []string{"4:1: net[0] cannot have both address and bridge"}},
		{"an id twice", boot + "[[net]]\nid = 'a'\n[[net]]\nid = 'a'\n", []string{`5:6: net[1].id: "a" is already the id of net[0]`}},
		{"an id that is another's default", boot + "[[net]]\nid = 'net1'\n[[net]]\n", []string{`4:1: net[1].id: "net1" is already the id of net[0]`}},
		{"a tap twice", boot + "[[net]]\ntap = 't'\n[[net]]\ntap = 'u'\n[[net]]\ntap = 't'\n", []string{`7:7: net[2].tap: "t" is already used by net[0]`}},
		{"a MAC twice", boot + "[[net]]\nmac = '52:54:00:12:34:5a'\n[[net]]\nmac = '52:54:00:12:34:5A'\n", []string{"5:7: net[1].mac: 52:54:00:12:34:5a is already used by net[0]"}},
		{"too many nets", boot + many("[[net]]\n", 17), []string{"18:1: net: 17 entries are too many: at most 16"}},

		// image
		{"the image's id", boot + "image = 'x'\n[[disk]]\npath = 'a.img'\nid = 'image'\n", []string{`5:6: disk[0].id: "image" is reserved for the image's disk`}},
		{"a console in the image", boot + "image = './x.tar'\nconsole = { mode = 'file', path = 'x.tar' }\n", []string{`3:35: console.path: "/vm/x.tar" is also image and would be overwritten`}},

		// disk, scsi, workers
		{"a disk without a path", boot + "[[disk]]\nreadonly = true\n", []string{"2:1: disk[0].path is missing"}},
		{"a disk whose path cannot be read", boot + "[[disk]]\npath = a.img\n", []string{"3:8: expected value"}},
		{"a missing disk", boot + "[[disk]]\npath = 'c.img'\n", []string{`3:8: disk[0].path: "/vm/c.img": file does not exist`}},
		{"a FIFO as a disk", boot + "[[disk]]\npath = 'fifo'\n", []string{`3:8: disk[0].path: "/vm/fifo" is not a regular file or a block device`}},
		{"a character device as a disk", boot + "[[disk]]\npath = 'char'\n", []string{`3:8: disk[0].path: "/vm/char" is not a regular file or a block device`}},
		{"an image that is not raw", boot + "[[disk]]\npath = 'odd.qcow2'\n", []string{`3:8: disk[0].path: /vm/odd.qcow2: a qcow2 image`}},
		{"an image that ends within a block", boot + "[[disk]]\npath = 'odd.img'\n", []string{`3:8: disk[0].path: "/vm/odd.img" is 1000 bytes, not a multiple of the block size 512`}},
		{"an image that ends within a large block", boot + "[[disk]]\nblock_size = 4096\npath = 'sectors.img'\n", []string{`4:8: disk[0].path: "/vm/sectors.img" is 1536 bytes, not a multiple of the block size 4096`}},
		{"an empty image", boot + "[[disk]]\npath = 'empty.img'\n", []string{`3:8: disk[0].path: "/vm/empty.img" is empty`}},
		{"an unsupported block size", boot + "[[disk]]\npath = 'a.img'\nblock_size = 1024\n", []string{"4:14: disk[0].block_size: 1024 is not supported: want 512 or 4096"}},
		{"an unknown cache mode", boot + "[[disk]]\npath = 'a.img'\ncache = 'writethru'\n", []string{`4:9: disk[0].cache: unknown value "writethru": want "writeback" or "writethrough"; did you mean "writethrough"?`}},
		{"an unknown disk backend", boot + "[[disk]]\npath = 'a.img'\nbackend = 'vhost_scsi'\n", []string{`4:11: disk[0].backend: unknown value "vhost_scsi": want "auto", "vhost-scsi" or "inprocess"; did you mean "vhost-scsi"?`}},
		{"disks of two backends", boot + "[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\nbackend = 'inprocess'\n[[disk]]\npath = 'block'\nbackend = 'vhost-scsi'\n", []string{`9:11: disk[2].backend: "vhost-scsi" conflicts with "inprocess" of disk[1]: all disks share one controller`}},
		{"a serial too long", boot + "[[disk]]\npath = 'a.img'\nserial = '" + many("s", 37) + "'\n", []string{"4:10: disk[0].serial: serial"}},
		{"a serial that is not ASCII", boot + "[[disk]]\npath = 'a.img'\nserial = 'né'\n", []string{`4:10: disk[0].serial: serial "né" may contain only printable ASCII`}},
		{"an empty serial", boot + "[[disk]]\npath = 'a.img'\nserial = ''\n", []string{"4:10: disk[0].serial: serial is empty"}},
		{"a serial twice", boot + "[[disk]]\npath = 'a.img'\nserial = 's'\n[[disk]]\npath = 'b.img'\nserial = 's'\n", []string{`7:10: disk[1].serial: "s" is already used by disk[0]`}},
		{"serials of the same hexadecimal digits", boot + "[[disk]]\npath = 'a.img'\nserial = 'web-root'\n[[disk]]\npath = 'b.img'\nserial = 'web-log'\n", []string{`7:10: disk[1].serial: "web-log" and serial "web-root" of disk[0] give the same world wide name, which is the first 25 hexadecimal digits of the serial: start one serial with another digit, not 0, such as "1-web-log"`}},
		{"serials without hexadecimal digits", boot + "[[disk]]\npath = 'a.img'\nserial = 'tools'\n[[disk]]\npath = 'b.img'\nserial = 'loop'\n", []string{`7:10: disk[1].serial: "loop" and serial "tools" of disk[0] give the same`}},
		{"serials that differ in zeros at the end and in case", boot + "[[disk]]\npath = 'a.img'\nserial = 'AB-1'\n[[disk]]\npath = 'b.img'\nserial = 'ab1-00'\n", []string{`7:10: disk[1].serial: "ab1-00" and serial "AB-1" of disk[0] give the same`}},
		{"serials that differ after 25 digits", boot + "[[disk]]\npath = 'a.img'\nserial = '0123456789abcdef012345678-1'\n[[disk]]\npath = 'b.img'\nserial = '0123456789abcdef012345678-2'\n", []string{`7:10: disk[1].serial: "0123456789abcdef012345678-2" and`}},
		{"a path twice, spelled two ways", boot + "[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'folder/../a.img'\n", []string{`5:8: disk[1].path: "/vm/a.img" is already used by disk[0]`}},
		{"a disk's id twice", boot + "[[disk]]\npath = 'a.img'\n[[disk]]\npath = 'b.img'\nid = 'disk0'\n", []string{`6:6: disk[1].id: "disk0" is already the id of disk[0]`}},
		{"an invalid disk id", boot + "[[disk]]\npath = 'a.img'\nid = 'my disk'\n", []string{`4:6: disk[0].id: "my disk" is not a valid name`}},
		{"no queues", boot + "[scsi]\nqueues = 0\n", []string{"3:10: scsi.queues: 0 is out of range: want 1 to 64"}},
		{"a queue too large", boot + "[scsi]\nqueue_size = 2048\n", []string{"3:14: scsi.queue_size: 2048 is not a power of two"}},
		{"an invalid CPU list", boot + "[workers]\naffinity = 'all'\n", []string{`3:12: workers.affinity: CPU list "all": "all" is not a CPU number`}},
		{"a CPU range backwards", boot + "[workers]\naffinity = '3-2'\n", []string{`3:12: workers.affinity: CPU list "3-2": range "3-2" is reversed`}},
		{"a CPU number too large", boot + "[workers]\naffinity = '1,5000'\n", []string{`3:12: workers.affinity: CPU list "1,5000": CPU 5000 is out of range`}},
		{"a CPU list of numbers", boot + "[workers]\naffinity = [2, 3]\n", []string{`3:12: workers.affinity must be a string like "2-3,5", not a list`}},

		// everything at once
		{"a file with a problem of each kind, sorted", "nmae = 'x'\n[machine]\nvcpus = '2'\nmemory = 512\nmemory = '1G'\n[[disk]]\npath = 'c.img'\n[[disk]]\nid = 'disk0'\n[boot]\nkernel = vmlinuz\n",
			[]string{`1:1: unknown key "nmae"; did you mean "name"?`, "3:9: machine.vcpus must be", "4:10: machine.memory must be", "5:1: machine.memory is set twice", "7:8: disk[0].path", "8:1: disk[1].path is missing", "9:6: disk[1].id", "11:10: expected value"}},
		{"lines that end in CR LF", "[boot]\r\nkernel = 'vmlinuz'\r\n[machine]\r\nvcpus = 0\r\n", []string{"4:9: machine.vcpus"}},
		{"a byte order mark", "\ufeffnmae = 'x'\n" + boot, []string{`1:4: unknown key "nmae"`}},
		{"tabs and characters of several bytes before", boot + "[[disk]]\n\tpath = 'a.img' # é\n\tserial = 'é'\n", []string{"4:11: disk[0].serial"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseTest(tt.file)
			e, ok := err.(*Error)
			if !ok {
				t.Fatalf("got %v (%T), want an *Error", err, err)
			}
			if len(e.Problems) != len(tt.want) {
				t.Fatalf("got %d problems, want %d:\n%v", len(e.Problems), len(tt.want), err)
			}
			for i, p := range e.Problems {
				pos, text, _ := strings.Cut(tt.want[i], ": ")
				want := "/vm/vm.toml:" + pos + ": error: " + text
				if text == "" {
					want = "/vm/vm.toml:" + strings.TrimSuffix(pos, ":")
				}
				if !strings.HasPrefix(p.String(), want) {
					t.Errorf("problem %d:\ngot  %s\nwant %s", i, p, want)
				}
			}
		})
	}
}

func TestAnErrorWithManyProblemsIsTruncated(t *testing.T) {
	_, err := parseTest(boot + strings.Repeat("[[disk]]\nx = 1\n", 60000))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxShown+1 || lines[maxShown] != "and 119951 more" {
		t.Fatalf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestAnUnreadableFileGivesTheSystemError(t *testing.T) {
	dir := t.TempDir()
	if _, err := Resolve(filepath.Join(dir, "none.toml"), nil); !os.IsNotExist(err) {
		t.Errorf("a missing file: got %v", err)
	}
	if _, err := Resolve(dir, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: got %v", err)
	}
	if _, err := Resolve("/dev/zero", nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: got %v", err)
	}
}
