for text in "$CreationTime" "$ProcessingStartTime" "$ProcessingEndTime"
do
    echo "$text" | grep -Eq '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$'
done
echo all three
printf '%s\n' "$CreationTime" "$ProcessingStartTime" "$ProcessingEndTime" | LC_ALL=C sort -c
echo in order
