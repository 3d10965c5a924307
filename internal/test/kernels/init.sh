#!/bin/busybox sh
# The only process of a virtual machine: runs JOB, which the kernel takes from
# its command line into the environment, and says on the port RESULT how that
# ended. Without the last line the machine has failed.
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=1777 tmp /tmp
chmod 755 / # for those who are not root
ip link set lo up
echo 127.0.0.1 localhost >/etc/hosts
for module in inet_diag tcp_diag; do
	[ ! -e /modules/$module.ko ] || insmod /modules/$module.ko
done

export FINWAIT_OWN_MACHINE=1 # a test may set its clock
# Collecting garbage is slow here, and so is waiting for what runs on the other CPU.
export GOGC=off GOMEMLIMIT=500MiB GOMAXPROCS=1
exec >/dev/$RESULT 2>&1
stty -F /dev/$RESULT raw # as long as it is open
status=0

# live HOOKS: an emulated machine can stand still for longer than any test waits,
# so tests that fail are run twice more, and must pass both times. What tests have
# started would keep the pipe open after the time limit: it is killed.
live() {
	{
		FINWAIT_HOOKS=$1 timeout "$LIMIT" /live.test -test.v=test2json -test.short \
			-test.skip "$never|$skip" ${RUN:+-test.run "$RUN"} || killall -q -9 live.test
	} | tee /tmp/out
	case $(tail -n 1 /tmp/out) in
	*PASS) ;;
	*FAIL)
		failed=$(sed -n 's/^.\?--- FAIL: \(Test[A-Za-z0-9]*\) .*/\1/p' /tmp/out | sort -u | paste -sd '|' -)
		echo "again"
		FINWAIT_HOOKS=$1 timeout "$LIMIT" /live.test -test.v=test2json -test.short \
			-test.count=2 -test.run "^($failed)\$" || status=$?
		echo "that was again"
		;;
	*) status=1 ;; # it did not come to an end
	esac
}

case $JOB in
test)
	/tracer.test -test.v=test2json -test.short -test.parallel=8 -test.run '^(TestVerifierCost|TestMissedEnd)$' || status=$?
	/confine.test -test.v=test2json || status=$?
	privilege='^TestPrivilege(Least|Optional|Syslog)$|^TestDoctorOrphans$' # what differs between kernels
	# What is the same on every kernel is not tested here, and what no hook of
	# minisocks has part in is tested with one set of them.
	never='^TestNothingLeaks$|^TestReadToTheEnd$|^TestOrderAcrossCPUs$|^TestTransitionFilters$|^TestCookieAndReasonFilters$|^TestLocalPortFilterShowsSYNSent$|^TestHandlerFilter$|^TestTotalsAreFiltered$|^TestGroupsFull$|^TestFlood$|^TestRSTFlood$'
	skip='^TestConnectHangs$|^TestListenWithoutBind$|^TestInUse$|^TestListenerClosed$|^TestErrorsOfTwoLives$|^TestStack|^TestMetrics|^TestSocketHolders$|^TestHolderOfMPTCP$|^TestListeners$|^TestWalk|^TestLinkLocal$|^TestRawWaitsForPort$|^TestRawRestored$|^TestLiveSockets$|^TestLiveTotalsAreGone$|^TestAuditRequestSockets$'
	for hooks in fentry tracepoint; do
		echo "hooks $hooks"
		live $hooks
		FINWAIT_HOOKS=$hooks timeout "$LIMIT" /finwait.test -test.v=test2json -test.short -test.run "$privilege" || status=$?
		privilege='^TestPrivilege(Least|Syslog)$'
		skip='Filters?$|^TestGroups$|^TestTotals$|^TestLifecycle$|^TestRingFull$|^TestRST|^TestSegment|^TestHandshakes$'
	done
	;;
refuse)
	NO_COLOR=1 timeout "$LIMIT" /finwait trace || status=$?
	;;
esac
echo
echo "exit status $status"
sync
reboot -f
