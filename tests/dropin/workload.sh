# Changes of every kind below /data, as the programs of a container make them. Runs in busybox' shell.
set -e
cd /data
echo new >new.txt
rm del.txt
rm -rf full
mkdir full
echo again >full/again
rm -rf gone
mkdir fresh fresh/sub
echo x >fresh/sub/x
mv move.txt moved.txt
mv fresh/sub fresh/sub2
mv mvdir mvdir2
chmod 0600 mode.txt
chmod 4755 exe
chmod 1777 modedir
chown 12:34 own.txt
chown -h 12:34 sym
chown 7:8 owndir
ln hard1 hard3
echo more >>hard2
ln -s /nowhere newsym
ln -sf other sym2
rm sym3
mkdir sym3
echo tail >>big
: >trunc
rm file2dir
mkdir file2dir
echo in >file2dir/in
rm -rf dir2file
echo file >dir2file
mkfifo newpipe
rm pipe
echo deep >deep/a/b/c/new
rm deep/a/b/old
rmdir deep/empty
echo wh >whback
mkdir opq
echo o >opq/o
mkdir setg/inner
echo g >setg/file
umask 077
echo u >um
mkdir umd
echo long >"$(printf '%0200d' 0)"
exec 3>tmpf
rm tmpf
echo hello >&3
exec 3>&-
umask 022
for i in 1 2 3 4 5 6 7 8 9; do rm -rf cycle && mkdir cycle && echo $i >cycle/$i; done
[ "$(ls cycle)" = 9 ]
[ "$(ls full)" = again ]
[ "$(cat hard1 hard2 hard3 | sort | uniq -c | tr -d ' ' | tr '\n' ' ')" = "3hard1 3more " ] || echo "hard links are broken"
